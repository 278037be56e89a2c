"""The configuration: overlays in order, and one clear line for whatever is wrong in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metaser.algorithms.base import SHARED
from metaser.config import Algorithm
from metaser.config.study import Study, merge
from metaser.experiment.run import check_settings
from metaser.runtime.errors import UserError
from metaser.training import learners
from support import FMAML

pytestmark = pytest.mark.quick

CONFIG = FMAML / "config.yaml"


def refusal(*overrides: str, variant: str = "5shot", protocol: str = "strict") -> str:
    with pytest.raises(UserError) as caught:
        Study(CONFIG).experiment(variant=variant, protocol=protocol, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_variant_protocol_synthetic_and_overrides_are_laid_over_one_another_in_this_order() -> None:
    study = Study(CONFIG)
    base = study.experiment(variant="5shot", protocol="paper")
    assert (base.tasks.shots, base.tasks.speakers, base.features.recipe) == (5, "mixed", "fmaml-code")
    strict = study.experiment(variant="20shot", protocol="strict", synthetic=True)
    assert (strict.tasks.shots, strict.tasks.speakers) == (20, "disjoint")
    assert strict.training.iterations == yaml.safe_load(CONFIG.read_text())["synthetic"]["training"]["iterations"]
    last = study.experiment(variant="5shot", protocol="strict", synthetic=True, overrides=["training.iterations=7"])
    assert last.training.iterations == 7
    assert last.training.meta_batch == base.training.meta_batch


def test_a_first_try_has_fewer_methods_but_a_variant_keeps_its_own_and_the_user_has_the_last_word() -> None:
    study = Study(CONFIG)
    few = set(study.experiment(variant="5shot", protocol="strict", synthetic=True).algorithms)
    assert {"fmaml", "maml", "supervised"} <= few < set(study.experiment(variant="5shot", protocol="strict").algorithms)
    for real in (study.experiment(variant=name, protocol="strict") for name in ("ablations", "best", "search")):
        first_try = study.experiment(variant=real.variant, protocol="strict", synthetic=True)
        assert list(first_try.algorithms) == list(real.algorithms)
        assert first_try.training.iterations < real.training.iterations
    asked = study.experiment(variant="5shot", protocol="strict", synthetic=True, overrides=["compare=[best, fmaml]"])
    assert list(asked.algorithms) == ["best", "fmaml"]


def test_rates_may_be_written_as_people_write_them() -> None:
    """YAML 1.1 reads 1e-3 as a string."""
    assert Study(CONFIG).experiment(overrides=["training.outer_lr=1e-3"]).training.outer_lr == 0.001


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.iteration=3", ("unknown key training.iteration", "did you mean 'iterations'?")),
        ("trainin.iterations=3", ("unknown key trainin", "did you mean 'training'?")),
        ("algorithms.fmaml.inner=3", ("unknown key algorithms.fmaml.inner", "'inner_lr'")),
        ("data.collections.open.corpra=[a]", ("unknown key data.collections.open.corpra", "'corpora'")),
        ("tasks.shots=0", ("tasks.shots", "greater than or equal to 1", "not 0")),
        ("tasks.shots=-5", ("tasks.shots", "not -5")),
        ("tasks.ways=1", ("tasks.ways", "not 1")),
        ("training.iterations=3.5", ("training.iterations", "integer", "3.5")),
        ("training.iterations=many", ("training.iterations", "integer", "'many'")),
        ("training.outer_lr=.nan", ("training.outer_lr", "nan")),
        ("training.outer_lr=-1", ("training.outer_lr", "not -1")),
        ("tasks.speakers=mxed", ("tasks.speakers", "'mixed' or 'disjoint'", "'mxed'")),
        ("data.use=opne", ("unknown collection 'opne'", "did you mean 'open'?")),
        (
            "data.collections.open.corpora=[{name: x, path: y}]",
            ("missing key data.collections.open.corpora.0.language",),
        ),
        ("seeds=[]", ("seeds",)),
        ("seeds", ("give key=value",)),
        ("seeds=[", ("not valid YAML",)),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(override: str, parts: tuple[str, ...]) -> None:
    message = refusal(override)
    for part in parts:
        assert part in message


def test_unknown_variants_and_protocols_get_the_nearest_name() -> None:
    assert "did you mean '5shot'?" in refusal(variant="5shots")
    assert "did you mean 'strict'?" in refusal(protocol="stric")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1, 2", "line"),
        ("- 1\n- 2\n", "mapping"),
        ("", "mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("variants: 3\n", "variants"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        Study(path).experiment()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        Study(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="not UTF-8"):
        Study(tmp_path / "binary.yaml")


trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abcd"), trees), st.dictionaries(st.sampled_from("abcd"), trees))
def test_merging_keeps_what_the_overlay_leaves_and_takes_what_it_says(base: dict, overlay: dict) -> None:
    merged = merge(base, overlay)
    assert merged.keys() == base.keys() | overlay.keys()
    assert merge(merged, overlay) == merged
    for key, value in overlay.items():
        if not isinstance(value, dict):
            assert merged[key] == value
    assert all(merged[key] == base[key] for key in base.keys() - overlay.keys())


def test_compare_chooses_algorithms_and_their_order(tmp_path: Path) -> None:
    study = Study(CONFIG)
    chosen = study.experiment(variant="5shot", overrides=["compare=[maml, fmaml]"])
    assert list(chosen.algorithms) == ["maml", "fmaml"]
    with pytest.raises(UserError, match=r"compare: no algorithm 'mmal'; did you mean 'maml'"):
        study.experiment(variant="5shot", overrides=["compare=[mmal]"])
    with pytest.raises(UserError, match=r"training.monitored: no algorithm 'fmamal'; did you mean 'fmaml'"):
        study.experiment(variant="5shot", overrides=["compare=[maml]", "training.monitored=[fmamal]"])
    assert list(study.experiment(variant="5shot", overrides=["compare=[maml]"]).algorithms) == ["maml"]


#: A value for every setting that not every method reads.
VALUES = {
    "inner_lr": 0.3, "steps": 7, "test_steps": 7, "first_order": False, "lambda_": 0.5, "lambda_ratio": 0.5, "layers": "head",
    "statistics": "support", "mask_fixed": True, "calibrate": True, "gaussian": {"own": 0.9}, "pretraining": {"epochs": 3},
    "tuning": {"epochs": 3},
}  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize("name", learners.LEARNERS)
def test_a_setting_of_another_method_is_refused_with_the_methods_it_belongs_to(name: str) -> None:
    assert set(VALUES) == set(Algorithm.model_fields) - SHARED, "each has a value here"
    method = learners.LEARNERS[name]
    needed = {"lambda_ratio": 1.0} if name == "regmaml" else {}
    for key, value in VALUES.items():
        settings = Algorithm.model_validate({"name": name, **({} if key == "lambda_" else needed), key: value})
        if key in method.reads | method.fits:
            check_settings("mine", settings)
            continue
        with pytest.raises(UserError, match=f"algorithms.mine.{key}: {name} has no use for it") as error:
            check_settings("mine", settings)
        owners = [one for one, other in learners.LEARNERS.items() if key in other.reads | other.fits]
        assert owners
        assert all(owner in str(error.value) for owner in owners)


@pytest.mark.quick
def test_regmaml_demands_lambda() -> None:
    with pytest.raises(UserError, match="regmaml needs λ: set lambda_ratio"):
        check_settings("mine", Algorithm(name="regmaml"))
