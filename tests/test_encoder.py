"""Recipes of frozen encoders, with a small network of the same class and random weights in place of the large ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchaudio
from torchaudio.pipelines import Wav2Vec2Bundle

from metaser.features import RECIPES, Encoder, compute, encoder, recipe
from metaser.runtime.errors import UserError
from metaser.runtime.files import cache_folder
from support.commands import FEW, metaser, small
from support.corpora import emodb, emovo

WIDTH, LAYERS = 24, 3

#: As torchaudio's bundles describe a network, only small.
PARAMETERS = {
    "extractor_mode": "group_norm", "extractor_conv_layer_config": [(16, 10, 5), (16, 8, 4), (16, 4, 2), (16, 4, 2), (16, 4, 2)],
    "extractor_conv_bias": False, "encoder_embed_dim": WIDTH, "encoder_projection_dropout": 0.1, "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 4, "encoder_num_layers": LAYERS, "encoder_num_heads": 4, "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32, "encoder_ff_interm_dropout": 0.1, "encoder_dropout": 0.1, "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.5, "aux_num_out": None,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """A recipe whose weights are in the cache."""
    bundle = Wav2Vec2Bundle("tiny-encoder.pth", PARAMETERS, 16000, True, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    chosen = Encoder(
        name="tiny", rate=16000, window=480, hop=160, bundle="TINY", file="tiny-encoder.pth", width=WIDTH, layers=LAYERS
    )
    monkeypatch.setitem(RECIPES, "tiny", chosen)
    torch.manual_seed(0)
    model = torchaudio.models.wav2vec2_model(**PARAMETERS)
    folder = cache_folder("encoders")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / chosen.file)
    encoder.network.cache_clear()
    return chosen


@pytest.mark.quick
def test_the_vector_is_mean_and_deviation_over_time_of_a_layer_or_of_their_mean(tiny: Encoder) -> None:
    waveform = torch.randn(8000, generator=torch.Generator().manual_seed(1))
    model = torchaudio.pipelines.TINY.get_model(dl_kwargs={"model_dir": str(encoder.weights(tiny).parent)}).eval()
    with torch.no_grad():
        layers = model.extract_features(waveform[None])[0]
    for layer, steps in ((None, torch.stack(layers).mean(0)[0]), (1, layers[0][0]), (LAYERS, layers[-1][0])):
        found, valid = compute(waveform, replace(tiny, layer=layer))
        assert found.shape == (2 * WIDTH, 1) == tiny.shape
        assert valid == 1
        torch.testing.assert_close(
            found[:, 0], torch.cat([steps.mean(0), steps.std(0, correction=0)]), rtol=1e-4, atol=1e-5
        )
    assert torch.equal(compute(waveform, tiny)[0], compute(waveform, tiny)[0]), "frozen: no dropout, no dropped layer"


@pytest.mark.parametrize("samples", [1, 300, 1600])
def test_a_clip_may_be_shorter_than_what_the_encoder_sees(tiny: Encoder, samples: int) -> None:
    assert compute(torch.ones(samples) * 0.1, tiny)[0].isfinite().all()


@pytest.mark.slow
def test_an_experiment_runs_on_it_and_other_weights_give_other_features(tiny: Encoder, tmp_path: Path) -> None:
    settings = ("compare=[classical,best]", "features.recipe=tiny", "evaluation.steps=[]", "tasks.fixed_shots=2",
                *(f"algorithms.{label}.features.recipe=tiny" for label in ("classical", "best")))  # fmt: skip
    emodb(tmp_path / "data")
    emovo(tmp_path / "data")
    found = metaser(*small(tmp_path / "a", *FEW, *settings), "--protocol", "strict", data=tmp_path / "data")
    assert found.returncode == 0, found.stderr
    changed = torchaudio.models.wav2vec2_model(**PARAMETERS)
    torch.save(changed.state_dict(), encoder.weights(tiny))
    encoder.network.cache_clear()
    assert (
        metaser(*small(tmp_path / "b", *FEW, *settings), "--protocol", "strict", data=tmp_path / "data").returncode == 0
    )
    one, other = ((tmp_path / part / "fmaml/5shot/real/tasks.csv").read_text() for part in "ab")
    assert one != other


def test_absent_weights_are_named_with_their_place(tmp_path: Path) -> None:
    found = metaser(*small(tmp_path, "features.recipe=wavlm", "compare=[fmaml]"), "--protocol", "strict")
    line = found.stderr.strip().splitlines()[-1]
    assert found.returncode != 0
    assert "wavlm_base_plus.pth" in line
    assert str(cache_folder("encoders")) in line
    assert "WAVLM_BASE_PLUS" in line
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize("damage", [b"", b"no weights at all", "another network's"])
def test_damaged_weights_are_one_clear_line(tiny: Encoder, damage: bytes | str) -> None:
    path = encoder.weights(tiny)
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        torch.save({"weight": torch.zeros(3)}, path)
    encoder.network.cache_clear()
    with pytest.raises(UserError, match="not the weights of TINY") as error:
        compute(torch.zeros(4000), tiny)
    assert "\n" not in str(error.value)
    path.unlink()


def test_nothing_but_weights_is_unpickled(tiny: Encoder, tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"weight": Bad()}, encoder.weights(tiny))
    encoder.network.cache_clear()
    with pytest.raises(UserError):
        compute(torch.zeros(4000), tiny)
    assert not (tmp_path / "touched").exists()
    encoder.weights(tiny).unlink()


@pytest.mark.parametrize("name", ["wavlm", "wav2vec2", "xlsr"])
def test_recipes_say_what_torchaudios_bundles_are(name: str) -> None:
    chosen = RECIPES[name]
    assert isinstance(chosen, Encoder)
    bundle = getattr(torchaudio.pipelines, chosen.bundle)
    assert bundle.sample_rate == chosen.rate
    assert (bundle._path, bundle._params["encoder_embed_dim"], bundle._params["encoder_num_layers"]) == (
        chosen.file, chosen.width, chosen.layers)  # fmt: skip


@pytest.mark.quick
def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="layer cannot be 13; it has 12"):
        recipe("wavlm", layer=13)
