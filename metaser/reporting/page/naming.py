"""What the page calls methods and metrics, and what an experiment's folder knows of a run: its names, its protocols, its paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pandas as pd

from metaser.config import Experiment
from metaser.config.folder import load
from metaser.config.study import Study
from metaser.reporting.finished import Finished
from metaser.reporting.page.compare import is_share
from metaser.reporting.tables import PAPER_COLUMNS, read_paper
from metaser.training import methods

TITLES = {"accuracy": "accuracy", "accuracy_emotions": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1",
          "uar": "UAR", "loss": "query loss, nats", "f1": "F1", "seconds_per_100_epochs": "seconds per 100 meta-iterations",
          "seconds_to_train": "seconds of training", "time_ratio": "time, the first method = 1"}  # fmt: skip


@cache
def known(home: Path) -> tuple[ModuleType | None, list[str], pd.DataFrame]:
    """An experiment's module, its protocols, its paper's numbers; nothing where the experiment is not there.

    Raises:
        UserError: naming the file of it that cannot be read.
    """
    if not (home / "run.py").is_file():
        return None, [], pd.DataFrame(columns=list(PAPER_COLUMNS))
    return load(home), Study(home / "config.yaml", methods).protocols, read_paper(home / "paper.csv")


def names(finished: Finished, module: ModuleType | None) -> Mapping[str, str]:
    """Algorithm → its name, as the experiment's own tables have it; with its label, where several have one name."""
    own = getattr(module, "labels", None)
    found: Mapping[str, str] = own(finished) if callable(own) else finished.names(getattr(module, "NAMES", {}))
    count = Counter(found.values())
    return {label: name if count[name] == 1 else f"{name} ({label})" for label, name in found.items()}


def titles(rows: pd.DataFrame, settings: Experiment) -> dict[str, str]:
    """Metric → its title with its unit, in the file's order; without the emotions' accuracy where there is no other class."""
    ways, fixed = settings.tasks.ways, settings.tasks.fixed
    classes = {"accuracy": f", {ways + len(fixed)} classes", "accuracy_emotions": f", {ways} emotions only"}
    found = {}
    for metric in dict.fromkeys(rows["metric"]):
        if metric != "accuracy_emotions" or fixed:
            title = TITLES.get(metric, metric.replace("_", " ").replace("recall ", "recall of "))
            found[metric] = title + classes.get(metric, "") + (", %" if is_share(metric) else "")
    return found
