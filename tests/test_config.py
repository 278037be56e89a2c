"""The configuration: overlays in order, and one clear line for whatever is wrong in it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metaser.algorithms.maml import MAML
from metaser.config import Algorithm, Features
from metaser.config.folder import load
from metaser.config.reading import merge
from metaser.config.study import Study
from metaser.runtime.errors import UserError
from metaser.training import learners, methods
from support import FMAML, REPOSITORY

pytestmark = pytest.mark.quick

CONFIG = FMAML / "config.yaml"


def refusal(*overrides: str, variant: str = "5shot", protocol: str = "strict") -> str:
    with pytest.raises(UserError) as caught:
        Study(CONFIG, methods).experiment(variant=variant, protocol=protocol, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_variant_protocol_synthetic_and_overrides_are_laid_over_one_another_in_this_order() -> None:
    study = Study(CONFIG, methods)
    base = study.experiment(variant="5shot", protocol="paper")
    assert (base.tasks.shots, base.tasks.speakers, base.features.recipe) == (5, "mixed", "fmaml-code")
    strict = study.experiment(variant="20shot", protocol="strict", synthetic=True)
    assert (strict.tasks.shots, strict.tasks.speakers) == (20, "disjoint")
    assert strict.training.iterations == yaml.safe_load(CONFIG.read_text())["synthetic"]["training"]["iterations"]
    last = study.experiment(variant="5shot", protocol="strict", synthetic=True, overrides=["training.iterations=7"])
    assert last.training.iterations == 7
    assert last.training.meta_batch == base.training.meta_batch


def test_a_first_try_has_fewer_methods_but_a_variant_keeps_its_own_and_the_user_has_the_last_word() -> None:
    study = Study(CONFIG, methods)
    few = set(study.experiment(variant="5shot", protocol="strict", synthetic=True).algorithms)
    every = set(study.experiment(variant="5shot", protocol="strict").algorithms)
    assert {"fmaml", "fomaml", "supervised"} <= few < every
    for real in (study.experiment(variant=name, protocol="strict") for name in ("ablations", "best", "search")):
        first_try = study.experiment(variant=real.variant, protocol="strict", synthetic=True)
        assert list(first_try.algorithms) == list(real.algorithms)
        assert first_try.training.iterations < real.training.iterations
    asked = study.experiment(variant="5shot", protocol="strict", synthetic=True, overrides=["compare=[best, fmaml]"])
    assert list(asked.algorithms) == ["best", "fmaml"]


def test_rates_may_be_written_as_people_write_them() -> None:
    """YAML 1.1 reads 1e-3 as a string."""
    assert Study(CONFIG, methods).experiment(overrides=["training.outer_lr=1e-3"]).training.outer_lr == 0.001


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
        Study(path, methods).experiment()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        Study(tmp_path / "absent.yaml", methods)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="not UTF-8"):
        Study(tmp_path / "binary.yaml", methods)


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
    study = Study(CONFIG, methods)
    chosen = study.experiment(variant="5shot", overrides=["compare=[fomaml, fmaml]"])
    assert list(chosen.algorithms) == ["fomaml", "fmaml"]
    with pytest.raises(UserError, match=r"compare: no algorithm 'fomal'; did you mean 'fomaml'"):
        study.experiment(variant="5shot", overrides=["compare=[fomal]"])
    with pytest.raises(UserError, match=r"training.monitored: no algorithm 'fmamal'; did you mean 'fmaml'"):
        study.experiment(variant="5shot", overrides=["compare=[fomaml]", "training.monitored=[fmamal]"])
    assert list(study.experiment(variant="5shot", overrides=["compare=[fomaml]"]).algorithms) == ["fomaml"]


#: A value for every setting that not every method reads.
VALUES = {
    "inner_lr": 0.3, "steps": 7, "test_steps": 7, "first_order": False, "lambda_": 0.5, "lambda_ratio": 0.5, "layers": "head",
    "statistics": "support", "mask_fixed": True, "calibrate": True, "gaussian": {"own": 0.9}, "pretraining": {"epochs": 3},
    "tuning": {"epochs": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", methods.LEARNERS)
def test_a_setting_of_another_method_is_refused_with_the_methods_it_belongs_to(name: str) -> None:
    every = set().union(*(set(one.Settings.model_fields) for one in methods.LEARNERS.values()))
    assert set(VALUES) == every - set(Algorithm.model_fields), "each has a value here"
    needed = {"lambda_ratio": 1.0} if name == "regmaml" else {}
    for key, value in VALUES.items():
        tree = {"name": name, **({} if key == "lambda_" else needed), key: value}
        if key in methods.fields(name):
            assert key in methods.settings(tree, "algorithms.mine").model_fields_set
            continue
        with pytest.raises(UserError, match=f"algorithms.mine.{key}: {name} has no use for it") as error:
            methods.settings(tree, "algorithms.mine")
        owners = [other for other in methods.LEARNERS if key in methods.fields(other)]
        assert owners
        assert all(owner in str(error.value) for owner in owners)


def test_what_a_setting_says_decides_something() -> None:
    """Every one of a method's own settings changes the learner that is built, or what it is tested with."""
    for name, one in methods.LEARNERS.items():
        own = set(one.Settings.model_fields) - set(Algorithm.model_fields)
        source = "".join(
            inspect.getsource(parent) for parent in one.__mro__ if parent.__module__.startswith("metaser.")
        )
        source += inspect.getsource(learners)
        for key in own:
            read = (
                f'fit("{key}")'
                if key in ("pretraining", "tuning")
                else "settings." + {"test_steps": "testing"}.get(key, key)
            )
            assert read in source, (name, key)


def test_regmaml_demands_lambda() -> None:
    with pytest.raises(UserError, match=r"algorithms\.mine: regmaml needs λ: set lambda_ratio"):
        methods.settings({"name": "regmaml"}, "algorithms.mine")
    with pytest.raises(UserError, match="not both"):
        methods.settings({"name": "regmaml", "lambda_": 1.0, "lambda_ratio": 1.0}, "algorithms.mine")


def test_what_earlier_versions_recorded_of_a_method_is_read(tmp_path: Path) -> None:
    """They wrote every method's settings for each."""
    old = {
        "name": "fomaml",
        "inner_lr": 0.1,
        "lambda_ratio": None,
        "layers": "all",
        "calibrate": False,
        "gaussian": None,
    }
    assert methods.recorded(old) == methods.configured("fomaml", inner_lr=0.1)
    with pytest.raises(UserError, match=r"unknown key algorithm\.inner"):
        methods.recorded({**old, "inner": 0.1})


# --- like and grid ---


def written(tmp_path: Path, algorithms: str, **overlays: str) -> Study:
    """A configuration with these algorithms."""
    text = (FMAML / "config.yaml").read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    tree |= {"algorithms": yaml.safe_load(algorithms), "compare": [], "variants": {}, "protocols": {}, "synthetic": {}}
    tree["training"]["monitored"] = []
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Study(path, methods)


LIKE = """
one: {name: fmaml, inner_lr: 0.1, steps: 5, first_order: false, features: {recipe: fmaml-code}}
two: {like: one, steps: 3}
three: {like: two, name: fomaml}
four: {like: three, features: {normalise: speaker}}
"""


def test_like_takes_over_what_the_method_has_a_use_for(tmp_path: Path) -> None:
    study = written(tmp_path, LIKE)
    found = study.experiment().algorithms
    code = {"recipe": "fmaml-code"}
    assert found["two"] == methods.configured("fmaml", inner_lr=0.1, steps=3, first_order=False, features=code)
    assert found["three"] == methods.configured("fomaml", inner_lr=0.1, steps=3, features=code)
    assert found["four"].features == Features(recipe="fmaml-code", normalise="speaker")
    changed = study.experiment(overrides=["algorithms.one.inner_lr=0.3", "algorithms.two.steps=9"]).algorithms
    assert [getattr(changed[label], "inner_lr") for label in ("one", "two", "three", "four")] == [0.3] * 4  # noqa: B009
    assert [getattr(changed[label], "steps") for label in ("one", "two", "three")] == [5, 9, 9]  # noqa: B009


def test_a_grid_makes_a_row_of_every_combination(tmp_path: Path) -> None:
    row = '"rate_{inner_lr}_{test_steps}": {like: one, grid: {inner_lr: [0.01, 2.0], test_steps: [1, 2]}}'
    study = written(tmp_path, f"one: {{name: fomaml, steps: 5}}\n{row}")
    found = study.experiment().algorithms
    assert list(found) == ["one", "rate_0.01_1", "rate_0.01_2", "rate_2.0_1", "rate_2.0_2"]
    assert found["rate_0.01_2"] == methods.configured("fomaml", steps=5, inner_lr=0.01, test_steps=2)
    study = written(tmp_path, "one: {name: fomaml}\n'row-{steps}': {like: one, grid: {steps: [1, 2]}}")
    chosen = study.experiment(overrides=["compare=[row-2]", "algorithms.row-2.inner_lr=7"]).algorithms
    assert chosen == {"row-2": methods.configured("fomaml", steps=2, inner_lr=7.0)}


@pytest.mark.parametrize(
    ("algorithms", "parts"),
    [
        ("a: {name: fomaml, like: b}", ("algorithms.a.like", "no algorithm 'b'")),
        ("a: {like: b}\nb: {like: a}", ("like itself", "a, b")),
        ("a: {like: a, name: fomaml}", ("like itself",)),
        ("a: {name: fomaml, like: 3}", ("algorithms.a.like", "no algorithm 3")),
        ("a: {name: fomaml, grid: 3}", ("algorithms.a.grid", "mapping of lists")),
        ("a: {name: fomaml, grid: {inner_lr: []}}", ("algorithms.a.grid", "mapping of lists")),
        ("a: {name: fomaml, grid: {inner_lr: [1, 2]}}", ("two rows a", "a_{inner_lr}")),
        ('"a_{steps}": {name: fomaml, grid: {inner_lr: [1, 2]}}', ("keys that its grid has not", "inner_lr")),
        ('"a_{inner}": {name: fomaml, grid: {inner: [1, 2]}}', ("unknown key algorithms.a_1.inner", "'inner_lr'")),
        ("a: {like: b, lambda_ratio: 1}\nb: {name: fomaml}", ("algorithms.a.lambda_ratio: fomaml has no use for it",)),
        ("a: 3", ("algorithms.a", "mapping")),
        ("a: {inner_lr: 0.1}", ("missing key algorithms.a.name",)),
        ("a: {name: [1]}", ("algorithms.a.name", "text")),
    ],
)
def test_what_cannot_be_like_or_a_grid_is_one_line(tmp_path: Path, algorithms: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        written(tmp_path, algorithms).experiment()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- labels say the truth ---


def called_maml(label: str, shown: str = "") -> bool:
    """Whether a row is called MAML: as a word of its own, not FOMAML, F-MAML or Reg-MAML."""
    return "maml" in re.split("[-_]", label) or bool(re.search(r"(?<![\w-])MAML(?![\w-])", shown))


def second_order(method: Algorithm) -> bool:
    kind = methods.kind(method.name)
    return issubclass(kind, MAML) and not kind.takes_first_order(method)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "folder", [path.parent for path in sorted(REPOSITORY.glob("experiments/*/run.py"))], ids=lambda path: path.name
)
def test_a_row_of_an_experiment_that_is_called_maml_is_second_order(folder: Path) -> None:
    study, shown = Study(folder / "config.yaml", methods), getattr(load(folder), "NAMES", {})
    for variant in study.variants:
        for label, method in study.experiment(variant=variant).algorithms.items():
            assert not called_maml(label, shown.get(label, "")) or second_order(method), (variant, label)


def test_a_committed_row_that_is_called_maml_is_second_order() -> None:
    runs = [json.loads(path.read_text()) for path in REPOSITORY.glob("results/**/run.json")]
    methods_of = [methods.experiment(own).algorithms for run in runs for own in run.get("settings", {}).values()]
    rows = [(label, method) for algorithms in methods_of for label, method in algorithms.items() if called_maml(label)]
    assert rows
    assert all(second_order(method) for _, method in rows)


@pytest.mark.parametrize(
    ("label", "shown", "called"),
    [("maml", "", True), ("maml-80", "", True), ("x", "MAML, all classes alike", True), ("fomaml", "FOMAML", False),
     ("fmaml", "F-MAML", False), ("regmaml", "Reg-MAML (λ = α)", False)],
)  # fmt: skip
def test_which_rows_are_called_maml(label: str, shown: str, called: bool) -> None:
    assert called_maml(label, shown) is called
