"""Tiny sweeps of an experiment that draws nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from metaser.experiment.sweep.cell import Cell
from metaser.experiment.sweep.grid import grid
from metaser.experiment.sweep.settings import read
from support import FMAML
from support.commands import TASKS, Result, metaser

SMALL = ["training.iterations=2", "training.meta_batch=2", "training.monitor_every=0", "evaluation.tasks=3",
         "evaluation.steps=[]", "compare=[fmaml]", *TASKS]  # fmt: skip
SWEEP: dict[str, Any] = {"experiment": "plain", "variants": ["5shot"], "protocols": ["paper"], "targets": ["x-ako"],
                         "seeds": [0, 1], "set": SMALL}  # fmt: skip

#: An experiment that draws nothing, which is most of what a tiny run spends its time on.
PLAIN = """
def render(finished, paper):
    (finished.folder / "table.md").write_text("")
"""


def sweep_file(folder: Path, **changes: Any) -> Path:
    """A ``tiny.yaml`` beside its experiment; a key that is set to None is left out."""
    path, plain = folder / "tiny.yaml", folder / "plain"
    if not plain.exists():
        plain.mkdir()
        (plain / "run.py").write_text(PLAIN)
        for name in ("config.yaml", "paper.csv"):
            shutil.copy(FMAML / name, plain)
    path.write_text(yaml.safe_dump({key: value for key, value in {**SWEEP, **changes}.items() if value is not None}))
    return path


def sweep(folder: Path, **changes: Any) -> Result:
    return metaser("sweep", sweep_file(folder, **changes), "--results", folder / "results")


def cells_of(folder: Path, **changes: Any) -> list[Cell]:
    path = sweep_file(folder, **changes)
    return grid(read(path), path, folder / "results" / "sweeps" / "tiny").cells


def attempts(log: Path) -> int:
    return sum(line.startswith("metaser: 2") for line in log.read_text().splitlines())
