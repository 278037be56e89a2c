"""Images as tasks: Omniglot's and MNIST's own layouts, stand-ins, and the two experiments."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from metaser.experiment import Run
from metaser.experiment.trial import TrialRun
from metaser.images import IMAGE_SETS
from metaser.images.mnist import IMAGES, LABELS, read_idx
from metaser.images.omniglot import split
from metaser.images.strokes import drawn
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers
from support import REPOSITORY
from support.commands import assert_refused, metaser

OMNIGLOT, MNIST = REPOSITORY / "experiments" / "omniglot", REPOSITORY / "experiments" / "mnist"


# --- Omniglot ---


def png(seed: int, side: int = 105) -> bytes:
    """A drawing as Omniglot has them: one bit a pixel, ink 0."""
    ink = np.random.default_rng(seed).random((side, side)) > 0.1
    buffer = io.BytesIO()
    Image.fromarray(ink).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def drawings() -> dict[str, bytes]:
    """A made-up Omniglot: every character has the same twenty drawings."""
    pages = [png(seed) for seed in range(20)]
    return {f"images_background/{character}/{number % 10000:04}_{drawer:02}.png": pages[drawer - 1]
            for number, character in enumerate(split(), 1) for drawer in range(1, 21)}  # fmt: skip


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path, content in files.items() if name == "images_background" else ():
                archive.writestr(path, content)
    return folder


@pytest.mark.quick
def test_the_split_is_a_partition_that_never_changes() -> None:
    assert Counter(split().values()) == {"train": 1100, "validation": 100, "test": 423}
    assert len({character.split("/")[0] for character in split()}) == 50
    tested = [character for character, part in split().items() if part == "test"]
    assert tested[:2] == ["Alphabet_of_the_Magi/character06", "Alphabet_of_the_Magi/character11"]


@pytest.mark.slow
def test_omniglot_is_read_from_its_archives_turned_four_ways(drawings: dict[str, bytes], tmp_path: Path) -> None:
    images = IMAGE_SETS["omniglot"].load(zipped(tmp_path / "omniglot", drawings))
    assert tuple(images.x.shape) == (4 * 20 * 1623, 28, 28)
    assert images.x.dtype == torch.uint8
    table = images.table
    assert (table.groupby("emotion").size() == 20).all()
    assert table.groupby("emotion")["domain"].nunique().max() == 1, "no class is in two parts"
    plain = table["emotion"].str.split("@").str[0]
    assert table.groupby(plain)["domain"].nunique().max() == 1, "nor is a turned character"
    assert plain.nunique() == 1623
    first = [images.x[row].numpy() for row in range(4)]
    for turn in range(4):
        assert (first[turn] == np.rot90(first[0], turn)).all()
    drawing = Image.open(io.BytesIO(drawings[min(drawings)])).convert("L")
    expected = 255 - np.asarray(drawing.resize((28, 28), Image.Resampling.LANCZOS))
    assert (first[0] == expected).all(), "as learn2learn's example makes them small"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda files: files.popitem(), ["32459 drawings, where Omniglot has 32460"]),
        (lambda files: files.update({next(iter(files)): b"not an image"}), ["cannot be read as PNG"]),
        (lambda files: files.update({next(iter(files)): png(0, 64)}), ["64 × 64 pixels, not 105 × 105"]),
        (lambda files: files.update({"images_background/Klingon/character01/0001_01.png": png(0)}), ["called Klingon/character01"]),
    ],
)  # fmt: skip
def test_a_damaged_omniglot_is_named(
    drawings: dict[str, bytes], tmp_path: Path, spoil: Callable[[dict[str, bytes]], object], parts: list[str]
) -> None:
    files = dict(drawings)
    spoil(files)
    folder = zipped(tmp_path / "omniglot", files)
    with pytest.raises(UserError) as caught:
        IMAGE_SETS["omniglot"].load(folder)
    for part in parts:
        assert part in str(caught.value)


def test_an_archive_that_is_none_and_a_folder_without_any_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither images_background/ nor images_background.zip; fetch"):
        IMAGE_SETS["omniglot"].load(tmp_path)
    (tmp_path / "images_background.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=r"images_background.zip: cannot be read"):
        IMAGE_SETS["omniglot"].load(tmp_path)


@pytest.mark.slow
def test_names_in_an_archive_that_are_not_omniglots_are_never_looked_at(
    drawings: dict[str, bytes], tmp_path: Path
) -> None:
    evil = {"../../outside.png": png(1), "/etc/passwd": b"", "images_background/../../x.png": png(2)}
    folder = zipped(tmp_path / "omniglot", {**drawings, **evil})
    before = sorted(tmp_path.rglob("*"))
    assert len(IMAGE_SETS["omniglot"].load(folder).x) == 4 * 20 * 1623
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


# --- MNIST ---


def idx(folder: Path, images: np.ndarray, labels: np.ndarray, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((IMAGES, images), (LABELS, labels)):
        content = (
            struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
        )
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return folder


def pack(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.gz").write_bytes(gzip.compress(content))


@pytest.mark.quick
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_the_first_500_of_each_digit(tmp_path: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10), 520))
    images = np.broadcast_to(np.arange(len(labels))[:, None, None] % 251, (len(labels), 28, 28))
    images = IMAGE_SETS["mnist"].load(idx(tmp_path / "mnist", images, labels, packed))
    assert images.table["emotion"].value_counts().to_dict() == {str(digit): 500 for digit in range(10)}
    assert set(images.table.loc[images.table["domain"] == "target", "emotion"]) == {"8", "9"}
    for digit in range(10):
        rows = np.flatnonzero(images.table["emotion"] == str(digit))
        assert (images.x[rows, 0, 0].numpy() == np.flatnonzero(labels == digit)[:500] % 251).all()


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda folder: (folder / f"{LABELS}.gz").unlink(), f"neither {LABELS} nor {LABELS}.gz"),
        (lambda folder: (folder / f"{IMAGES}.gz").write_bytes(b"nonsense"), "cannot be read"),
        (lambda folder: pack(folder, IMAGES, struct.pack(">4I", 0x803, 2**31, 28, 28)), "no IDX file"),
        (lambda folder: pack(folder, IMAGES, struct.pack(">4I", 0x803, 60, 28, 28) + b"abc"), "less than"),
        (lambda folder: pack(folder, LABELS, struct.pack(">2I", 0x801, 2) + b"abc"), "more than"),
        (lambda folder: idx(folder, np.zeros((40, 28, 28)), np.zeros(40)), "40 images of 0, 500 are needed"),
        (lambda folder: idx(folder, np.zeros((40, 28, 28)), np.zeros(41)), "do not belong together"),
    ],
)  # fmt: skip
def test_a_damaged_mnist_is_named(tmp_path: Path, spoil: Callable[[Path], object], part: str) -> None:
    folder = idx(tmp_path, np.zeros((5, 28, 28)), np.zeros(5))
    spoil(folder)
    with pytest.raises(UserError, match=part):
        IMAGE_SETS["mnist"].load(folder)


@pytest.mark.skipif(not os.environ.get("METASER_DATA"), reason="needs METASER_DATA with MNIST")
def test_the_real_mnist_is_read() -> None:
    folder = IMAGE_SETS["mnist"].folder(Path(os.environ["METASER_DATA"]))
    if folder is None:
        pytest.skip("no mnist in METASER_DATA")
    images, labels = read_idx(folder, IMAGES, 3), read_idx(folder, LABELS, 1)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9], "MNIST begins so"
    assert images[0].sum() == 27525


# --- stand-ins ---


@pytest.mark.quick
def test_the_stand_ins_are_the_same_in_every_process_and_hands_differ() -> None:
    assert (drawn(3, 7) == drawn(3, 7)).all()
    same = [drawn(3, hand).astype(float) for hand in range(20)]
    other = [drawn(4, hand).astype(float) for hand in range(20)]
    within = np.mean([np.abs(one - two).mean() for one in same for two in same])
    between = np.mean([np.abs(one - two).mean() for one in same for two in other])
    assert 0 < within < between
    digits = IMAGE_SETS["digits"].load(None)
    assert tuple(digits.x.shape) == (1797, 28, 28)
    assert digits.x.max() == 255


# --- the experiments, on their stand-ins ---

TINY = ("training.iterations=2", "training.meta_batch=2", "training.monitor_every=0", "evaluation.tasks=3", "seeds=[0]")


def run(experiment: Path, variant: str, results: Path, *settings: str, data: object = None):
    chosen = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
    return metaser("run", experiment, "--variant", variant, "--results", results, *chosen, data=data)


def test_omniglots_experiment_runs_on_invented_characters(tmp_path: Path) -> None:
    result = run(OMNIGLOT, "fc", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "SYNTHETIC" in result.stderr
    folder = tmp_path / "omniglot" / "fc" / "synthetic"
    page = (folder / "table.md").read_text()
    for part in (
        "SYNTHETIC",
        "FOMAML − MAML: accuracy",
        "776 and 767 were right (Fisher's exact test, p = 0.28)",
        "23617.3",
    ):
        assert part in page
    tasks = pd.read_csv(folder / "tasks.csv")
    assert set(tasks["algorithm"]) == {"fomaml", "maml", "protonet", "matching", "relation"}
    assert not [column for column in tasks if column.startswith("recall_")], "classes differ from task to task"
    assert not [column for column in tasks if "emotion" in column], "a character is no emotion"
    assert not (folder / "confusion.csv").exists()
    again = metaser("render", OMNIGLOT, folder)
    assert again.returncode == 0, again.stderr


def test_mnists_experiment_runs_on_the_bundled_digits_and_says_so(tmp_path: Path) -> None:
    shorter = [f"algorithms.{name}.pretraining.epochs=1" for name in ("fine-tuned", "maml", "protonet")]
    few = ("compare=[scratch, fine-tuned, maml, protonet]", "model.name=omniglot-fc", "evaluation.queries=20",
           "evaluation.min_queries=20", *shorter)  # fmt: skip
    result = run(MNIST, "alike", tmp_path, *few)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "mnist" / "alike" / "bundled" / "table.md").read_text()
    assert "This is not MNIST" in page
    assert "MAML − fine-tuned, all layers" in page


def test_the_tutorials_maml_is_pretrained_on_other_digits_and_gives_each_an_output_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METASER_DATA", raising=False)
    names = [*"01234567"]
    run = Run(MNIST, "tutorial", ["model.name=omniglot-fc"], tmp_path)
    works = {trial.algorithm: TrialRun(run.trials, trial, run.features(trial), Workers(1))
             for trial in run.trials.all() if trial.seed == 0}  # fmt: skip
    assert {name: sorted(set(work.sources().emotions)) for name, work in works.items()} == {
        "fine-tuned-20": names, "maml-80": names[:4],
    }  # fmt: skip
    maml = works["maml-80"]
    tasks = maml.stream("train", maml.samplers[""])
    for number in range(40):
        task = tasks.task(0, number)
        labels = list(run.speech.table.loc[task.support_index.numpy(), "emotion"])
        assert [names[4 + y] for y in task.support_y] == labels, "4 to 7 are always outputs 0 to 3"
        assert len(set(labels)) == 2
    test = maml.stream("test", maml.samplers["target"]).task(0, 0)
    assert test.classes == ("8", "9")
    assert maml.learner.predict(test).shape == (len(test.query_y), 2)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["data.images=[omniglott]"], ["data.images: unknown set 'omniglott'", "did you mean 'omniglot'?"]),
        (["data.images=[omniglot]"], ["METASER_DATA is not set", "no folder 'omniglot'", "images_background.zip"]),
        (["features.recipe=fmaml"], ["images have none but {recipe: pixels}"]),
        (["data.targets=[tset]"], ["data.targets: no domain 'tset'", "did you mean 'test'?"]),
        (["data.collections={a: {corpora: [emodb]}}"], ["collections of corpora, or sets of images"]),
        (["tasks.shots=18"], ["18 support + 5 query clips"]),
        (["algorithms.maml.order=own"], ["algorithms.maml", "order: own", "tuning: {head: fresh}"]),
        (["algorithms.maml.task_classes=[kanji]"], ["algorithms.maml.task_classes: no class 'kanji'"]),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, settings: list[str], parts: list[str]) -> None:
    assert_refused(run(OMNIGLOT, "fc", tmp_path, *settings), *parts)
