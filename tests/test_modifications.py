"""The study of FOMAML, Reptile and Reg-MAML: fixed sources, optima, claims, and a divergence that is a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metaser.config.study import Study
from metaser.reporting import trends
from metaser.reporting.finished import Finished
from metaser.runtime.errors import UserError
from metaser.training import methods
from support import REPOSITORY
from support.commands import Result, assert_refused, metaser

MODIFICATIONS = REPOSITORY / "experiments" / "modifications"
TINY = ("training.iterations=4", "training.meta_batch=2", "training.log_every=1", "training.monitor_every=2",
        "training.monitor_tasks=2", "evaluation.tasks=3", "model.name=fmaml-conv", "tasks.queries=2",
        "evaluation.queries=4", "evaluation.min_queries=2")  # fmt: skip


def run(results: Path, variant: str, *settings: str) -> Result:
    chosen = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
    return metaser("run", MODIFICATIONS, "--variant", variant, "--protocol", "strict", "--results", results, *chosen)


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("modifications")
    result = run(results, "table1")
    assert result.returncode == 0, result.stderr
    return results / "modifications" / "table1" / "synthetic"


@pytest.mark.slow
def test_one_model_serves_all_targets_and_trains_on_the_sources_alone(table1: Path) -> None:
    tasks, metrics = pd.read_csv(table1 / "tasks.csv"), pd.read_csv(table1 / "metrics.csv")
    assert set(tasks["source"]) == {"x-ako+x-bel+x-cun"}
    assert set(tasks["target"]) == {"x-dor", "x-esh"}
    assert len(tasks) == 4 * 2 * 2 * 3, "algorithms × targets × seeds × tasks"
    assert {"macro_f1", "weighted_f1", "uar"} <= set(tasks.columns)
    training = metrics[metrics["split"] == "train"]
    assert set(training["target"]) == {"x-dor+x-esh"}, "one training curve for both targets"
    assert len(training) == 4 * 2 * 4 * 2, "algorithms × seeds × iterations × metrics"
    timing = pd.read_csv(table1 / "timing.csv")
    assert set(timing["n_seeds"]) == {2}
    ratios = timing[timing["metric"] == "time_ratio"].set_index("algorithm")["mean"]
    assert ratios["fomaml"] == 1
    assert list(ratios.index) == ["fomaml", "reptile", "regmaml", "maml"]


@pytest.mark.slow
def test_the_table_has_what_the_report_has(table1: Path) -> None:
    page = (table1 / "table.md").read_text()
    for part in ("SYNTHETIC", "FOMAML", "Reptile", "Reg-MAML", "0.5296", "30.39", "1.22", "macro-F1", "UAR",
                 "Reptile reaches the highest accuracy", "detectable"):  # fmt: skip
        assert part in page
    assert {path.name for path in table1.glob("*.png")} == {"accuracy.png", "loss.png"}
    assert list(pd.read_csv(table1 / "optima.csv").columns) == list(trends.OPTIMA)


@pytest.mark.slow
def test_a_divergence_is_recorded_and_stops_no_other_model(tmp_path: Path) -> None:
    result = run(tmp_path, "lambda", "algorithms.lambda-10.inner_lr=1e6", "seeds=[0]")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "modifications" / "lambda" / "synthetic"
    metrics, tasks = pd.read_csv(folder / "metrics.csv"), pd.read_csv(folder / "tasks.csv")
    diverged = metrics[metrics["metric"] == "diverged"]
    assert set(diverged["algorithm"]) == {"lambda-10"}
    assert "lambda-10" not in set(tasks["algorithm"])
    assert "lambda-5" in set(tasks["algorithm"])
    page = (folder / "table.md").read_text()
    assert "1 of 1" in page
    assert page.index("λ/α = 2:") < page.index("λ/α = 5:"), "from the smallest on"
    assert pd.read_csv(folder / "optima.csv").set_index("algorithm").loc["lambda-10", "last"].isna().all()


def test_where_divergence_is_an_error_the_run_has_failed(tmp_path: Path) -> None:
    settings = ("algorithms.regmaml.inner_lr=1e6", "algorithms.regmaml.lambda_ratio=10", "seeds=[0]")
    result = run(tmp_path, "regmaml", *settings, "training.divergence=error")
    assert result.returncode == 1, result.stderr
    assert "diverged" in result.stderr.splitlines()[-2]
    assert "models failed" in result.stderr.splitlines()[-1]


def test_where_every_model_diverged_there_is_nothing_to_report(tmp_path: Path) -> None:
    result = run(
        tmp_path, "regmaml", "algorithms.regmaml.inner_lr=1e6", "algorithms.regmaml.lambda_ratio=10", "seeds=[0]"
    )
    assert_refused(result, "every model diverged", "inner_lr")


def test_a_test_of_few_tasks_may_miss_an_emotion(tmp_path: Path) -> None:
    """Two of four emotions per task, and one task: the confusion matrix has two classes, and the plots can do with it."""
    result = run(tmp_path, "fomaml", "tasks.ways=2", "evaluation.tasks=1", "seeds=[0]")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "modifications" / "fomaml" / "synthetic"
    counts = pd.read_csv(folder / "confusion.csv")
    assert all(len(set(rows["true"])) == 2 for _, rows in counts.groupby("target"))
    assert all(matrix.shape == (2, 2) for matrix in Finished(folder).confusions().values())


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["data.sources=[x-aki]"], ["data.sources", "'x-aki'", "'x-ako'"]),
        (["data.sources=[x-dor]"], ["data", "x-dor", "target"]),
        (["data.targets=[]"], ["data", "targets"]),
    ],
)
def test_mistakes_in_sources_are_named(tmp_path: Path, settings: list[str], parts: list[str]) -> None:
    assert_refused(run(tmp_path, "table1", *settings), *parts)


def test_a_protocol_says_nothing_of_algorithms_that_other_variants_have() -> None:
    study = Study(MODIFICATIONS / "config.yaml", methods)
    assert set(study.experiment(variant="fomaml", protocol="paper").algorithms) == {"fomaml"}
    table1 = study.experiment(variant="table1", protocol="paper")
    assert {(algorithm.inner_lr, algorithm.outer_lr) for algorithm in table1.algorithms.values()} == {(2e-4, 1e-6)}


def test_a_protocols_algorithm_that_no_variant_has_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = (MODIFICATIONS / "config.yaml").read_text()
    path.write_text(text.replace("      reptile: {outer_lr", "      reptiel: {outer_lr"))
    with pytest.raises(UserError, match=r"algorithms\.reptiel"):
        Study(path, methods).experiment(variant="table1", protocol="paper")


def made(losses: list[float], scores: list[float], algorithm: str = "a", seed: int = 0) -> pd.DataFrame:
    """One model's curves: a training point per iteration, a test point every second one."""
    rows = [("train", "s", "loss", i, value) for i, value in enumerate(losses)]
    rows += [("monitor", "t", "macro_f1", 2 * i, value) for i, value in enumerate(scores)]
    frame = pd.DataFrame(rows, columns=["split", "target", "metric", "iteration", "mean"])
    return frame.assign(protocol="strict", algorithm=algorithm, seed=seed)


def test_optima_are_where_the_curves_are_best() -> None:
    losses = [9.0, 8, 7, 6, 5, 4, 3, 2, 2, 2, 2, 2, 9, 9, 9]
    found = trends.optima(made(losses, [0.1, 0.2, 0.7, 0.3, 0.3, 0.4, 0.2]), ["t"]).iloc[0]
    assert found["train_optimum"] == 9
    assert found["test_optimum"] == 4
    assert found["best"] == 0.7
    assert found["at_train_optimum"] == 0.3, "the test curve's point at 8 or 10, the nearest to 9; the first of them"
    assert found["gap"] == pytest.approx(0.4)
    assert found["distance"] == 5
    assert np.isnan(found["diverged_at"])
    assert np.isnan(found["last"]), "it was never tested"


def test_contrasts_are_paired_tests() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(8), rng.random(8)
    frame = pd.concat([pd.DataFrame({"algorithm": name, "seed": range(8), "target": "t", "gap": values})
                       for name, values in (("a", ours), ("b", theirs))])  # fmt: skip
    found, right = trends.contrast(frame, "gap", "a", "b"), stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(right.pvalue)
    low, high = right.confidence_interval()
    assert (found.mean - found.ci95, found.mean + found.ci95) == pytest.approx((low, high))
    assert found.seeds == 8


def test_a_slope_is_that_of_every_seeds_line() -> None:
    rng = np.random.default_rng(2)
    values = rng.random((5, 3))  # seeds, algorithms
    frame = pd.DataFrame(
        {"algorithm": [*"abc"] * 5, "seed": np.repeat(range(5), 3), "target": "t", "gap": values.ravel()}
    )
    found = trends.slope(frame, "gap", ["c", "a", "b"])
    slopes = (values[:, 1] - values[:, 2]) / 2  # of three points at 0, 1, 2: half of last less first
    assert found.mean == pytest.approx(slopes.mean())
    assert found.p == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)
    frame.loc[frame.index[0], "gap"] = np.nan  # seed 0 diverged
    assert trends.slope(frame, "gap", ["c", "a", "b"]).seeds == 4


def test_the_detectable_difference_is_found_as_often_as_said() -> None:
    """By simulation: with normal differences of that mean, the share of 95 % intervals that leave out 0."""
    rng, count = np.random.default_rng(1), 15
    factor = stats.t.ppf(0.975, count - 1) + stats.t.ppf(trends.POWER, count - 1)
    draws = rng.normal(factor / count**0.5, 1.0, (20_000, count))
    power = (stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(trends.POWER, abs=0.02)


def test_verdicts() -> None:
    assert trends.Contrast(1.0, 0.5, 0.01, 5, 1.0).verdict(1) == "yes"
    assert trends.Contrast(1.0, 0.5, 0.01, 5, 1.0).verdict(-1) == "no"
    assert trends.Contrast(0.4, 0.5, 0.2, 5, 1.0).verdict(1) == "undecided"
    assert trends.Contrast(1.0, float("nan"), 0.2, 1, 1.0).verdict(1) == "undecided"
