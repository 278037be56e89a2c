"""The files that every run writes: their columns and number format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from metaser.reporting.spreadsheet import guarded
from metaser.runtime.files import replacing, write_text

#: What identifies a number; every results file begins with these columns.
KEYS = ("experiment", "variant", "algorithm", "protocol", "data", "source", "target", "shots")

#: The columns of ``metrics.csv``, a row per evaluation and metric.
METRICS = (*KEYS, "seed", "split", "iteration", "metric", "mean", "ci95", "n_tasks")

#: The columns of ``summary.csv`` (and of ``timing.csv``, which holds what was measured with a clock).
SUMMARY = (*KEYS, "metric", "mean", "ci95", "n_tasks", "n_seeds", "paper")

#: The columns of ``confusion.csv``, a row per pair of classes.
CONFUSION = (*KEYS, "seed", "true", "predicted", "count")

#: Enough digits to tell any two results apart, few enough to read.
FLOAT_FORMAT = "%.6f"


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame with the number format of all results, text `guarded`, whole or not at all."""
    with replacing(path) as temporary:
        guarded(frame).to_csv(temporary, index=False, float_format=FLOAT_FORMAT)


def write_json(tree: dict[str, Any], path: Path) -> None:
    """Writes readable JSON, whole or not at all."""
    write_text(path, json.dumps(tree, indent=2, sort_keys=True) + "\n")
