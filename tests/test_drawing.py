"""What the experiments' drawings share: names, what stands above data that are not real, which methods a plot shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaser.reporting import drawing as module
from metaser.reporting import tables
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import Finished
from metaser.reporting.results import KEYS
from metaser.training import methods
from metaser.training.evaluation import seeded_interval
from support import REPOSITORY

pytestmark = pytest.mark.quick


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    """A committed run of five methods, in a folder of its own."""
    shutil.copytree(REPOSITORY / "results" / "adapt" / "1shot" / "real", tmp_path / "real")
    return Finished(tmp_path / "real")


def test_a_method_is_called_by_the_experiment_then_by_its_own_name_then_by_its_label(finished: Finished) -> None:
    finished.first.algorithms["reptile"] = methods.configured("fomaml")
    names = finished.names({"svm": "SVM of these clips alone"})
    assert names == {"gaussian": "gaussian", "fomaml": "FOMAML", "reptile": "reptile", "scratch": "scratch",
                     "svm": "SVM of these clips alone"}  # fmt: skip
    assert list(names) == ["gaussian", "fomaml", "reptile", "scratch", "svm"], "as compare has them"


@pytest.mark.parametrize(("kind", "warned"), [("real", 0), ("synthetic", 1), ("bundled", 1)])
def test_what_is_not_real_is_said_above_the_table(finished: Finished, kind: str, warned: int) -> None:
    finished.kind = kind
    Drawing(finished, "a caption", finished.names(), "**made up**").table("one", "", "two")
    assert (finished.folder / "table.md").read_text() == "\n\n".join(
        ["# a caption", *["**made up**"] * warned, "one", "two\n"]
    )


def test_a_plot_shows_the_methods_that_are_wanted_or_all_where_there_are_none(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[set[str]] = []
    monkeypatch.setattr(module.plots, "confusions", lambda counts, *_: shown.append({key[0] for key in counts}))
    drawing = Drawing(finished, "", finished.names())
    drawing.confusions("confusion", only=("fomaml", "best"))
    drawing.confusions("confusion", only=("best",))
    drawing.confusions("confusion")
    every = {f"{protocol}, {label}" for protocol in ("mixed", "strict") for label in finished.names()}
    assert shown == [{"mixed, fomaml", "strict, fomaml"}, every, every]


@pytest.mark.parametrize(
    ("run", "columns"),
    [("adapt/1shot", ["emovo (EMOVO)"]), ("fmaml/borrowed", ["German (EMODB)", "English (RAVDESS)", "Italian (EMOVO)", "mean"])],
)  # fmt: skip
def test_a_table_has_the_mean_over_several_targets_only(run: str, columns: list[str]) -> None:
    finished = Finished(REPOSITORY / "results" / run / "real")
    first = next(Drawing(finished, "", finished.names()).protocols)
    head = first.scores({"accuracy": "accuracy"}, mean=True).splitlines()[0]
    assert head == f"| {' | '.join(['accuracy, %', *columns])} |"


def test_the_mean_over_targets_is_of_methods_that_were_tested_on_all_of_them() -> None:
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        [{**dict.fromkeys(KEYS, ""), "protocol": "strict", "algorithm": algorithm, "target": target, "shots": 5, "seed": seed,
          "corpus": target, "task": task, "accuracy": rng.random()}
         for algorithm, targets in (("all", "ab"), ("some", "a")) for target in targets for seed in range(3) for task in range(4)]
    )  # fmt: skip
    (row,) = tables.over_targets(scores).to_dict("records")
    rows = scores[scores["algorithm"] == "all"]
    assert (row["algorithm"], row["target"], row["n_tasks"], row["n_seeds"]) == ("all", tables.MEAN, 24, 3)
    assert (row["mean"], row["ci95"]) == pytest.approx(
        seeded_interval(rows["accuracy"].to_numpy(), rows["seed"].to_numpy())
    )
