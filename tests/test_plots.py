"""What the plots show: intervals of shares end at 0 and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from metaser.reporting import plots, trends


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that a test has made, instead of files."""
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def curve_of(metric: str, values: list[list[float]]) -> pd.DataFrame:
    """A training curve of one algorithm: a row per iteration, a column per seed."""
    return pd.DataFrame(
        [("strict", "fmaml", "", "train", metric, iteration, seed, value)
         for iteration, row in enumerate(values) for seed, value in enumerate(row)],
        columns=["protocol", "algorithm", "target", "split", "metric", "iteration", "seed", "mean"],
    )  # fmt: skip


@pytest.mark.parametrize(("metric", "within"), [("accuracy", True), ("macro_f1", True), ("loss", False)])
def test_a_band_stays_within_0_and_1_where_the_metric_is_a_share(
    metric: str, within: bool, drawn: list[Figure], tmp_path: Path
) -> None:
    metrics = curve_of(metric, [[0.02, 0.30], [0.60, 0.99]])  # two seeds that differ: intervals far wider than 0 to 1
    trends.trends(metrics, metric, metric, {}, {"fmaml": "F-MAML"}, "made up", tmp_path / "x.png")
    (band,) = drawn[0].axes[0].collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert bool(heights.min() >= 0 and heights.max() <= 1) is within


def test_error_bars_of_an_accuracy_end_at_0_and_100(drawn: list[Figure], tmp_path: Path) -> None:
    summary = pd.DataFrame(
        {"protocol": "strict", "metric": "accuracy", "target": ["aa", "bb"], "algorithm": "fmaml", "mean": [0.02, 0.95],
         "ci95": [0.1, 0.2]}
    )  # fmt: skip
    plots.bars(
        summary,
        {"accuracy": "accuracy"},
        {"aa": "A", "bb": "B"},
        [0.2],
        {"fmaml": "F-MAML"},
        "made up",
        tmp_path / "x.png",
    )
    (bars,) = (found for found in drawn[0].axes[0].containers if isinstance(found, BarContainer))
    ends = np.concatenate([segment[:, 1] for segment in bars.errorbar.lines[2][0].get_segments()])
    assert sorted(ends) == pytest.approx([0, 12, 75, 100])
