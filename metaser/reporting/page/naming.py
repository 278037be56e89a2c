"""What the page calls methods, metrics and targets, and what an experiment's folder knows of a run: names, protocols, paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from metaser.config.folder import load
from metaser.config.study import Study
from metaser.reporting.finished import Finished
from metaser.reporting.tables import PAPER_COLUMNS, escaped, is_share, read_paper
from metaser.training import methods

TITLES = {"accuracy_emotions": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1", "uar": "UAR",
          "loss": "query loss, nats", "f1": "F1", "seconds_per_100_epochs": "seconds per 100 meta-iterations",
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


class Names:
    """What a run's methods, metrics and targets are called; as Markdown, in which no name means anything else.

    Attributes:
        methods: Algorithm → its name, as the experiment's own tables have it; with its label, where several have one name.
        metrics: Metric → its title with its unit; without the emotions' accuracy where there is no other class.

    Args:
        finished: The run.
        rows: Of its ``summary.csv`` and ``timing.csv``.
        module: Its experiment's, if that is there.
    """

    def __init__(self, finished: Finished, rows: pd.DataFrame, module: ModuleType | None) -> None:
        own, self._targets = getattr(module, "labels", None), finished.titles
        found: Mapping[str, str] = own(finished) if callable(own) else finished.names(getattr(module, "NAMES", {}))
        count = Counter(found.values())
        self.methods = {label: name if count[name] == 1 else f"{name} ({label})" for label, name in found.items()}
        self.methods |= {label: label for label in rows["algorithm"] if label not in self.methods}
        self._ways, self._fixed = finished.first.tasks.ways, len(finished.first.tasks.fixed)
        self.metrics = {metric: self.metric(metric) for metric in rows["metric"].unique()
                        if metric != "accuracy_emotions" or self._fixed}  # fmt: skip
        places = rows[["algorithm", "target", "source", "shots"]].drop_duplicates()
        self._sources = bool(places.duplicated(["algorithm", "target"]).any())
        self._shots = self._sources and places["shots"].nunique() > 1

    def method(self, label: str) -> str:
        """An algorithm's name."""
        return escaped(self.methods.get(label, label))

    def metric(self, metric: str) -> str:
        """A metric's title with its unit."""
        title = TITLES.get(metric, metric.replace("_", " ").replace("recall ", "recall of "))
        classes = {
            "accuracy": f", {self._ways + self._fixed} classes",
            "accuracy_emotions": f", {self._ways} emotions only",
        }
        return escaped(title) + classes.get(metric, "") + (", %" if is_share(metric) else "")

    def target(self, target: str) -> str:
        """A target's title."""
        return escaped(self._targets.get(target, target))

    def row(self, row: Mapping[Any, Any]) -> str:
        """Metric and method of a row of results; its sources and shots where a method has several."""
        place = f", from {escaped(row['source'].replace('+', ' + '))}" if self._sources and row["source"] else ""
        place += f", {row['shots']:g} shots" if self._shots and place else ""
        return f"{self.metric(row['metric'])}: {self.method(row['algorithm'])}{place}"
