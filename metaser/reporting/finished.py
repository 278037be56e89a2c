"""A run's files, read back: the one source of its plots and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from metaser.config import Experiment
from metaser.reporting.facts import Facts, read_facts
from metaser.reporting.folder import refuse_mixed
from metaser.reporting.results import CONFUSION, KEYS, METRICS, SUMMARY
from metaser.reporting.spreadsheet import unguarded
from metaser.runtime.errors import UserError, first_line
from metaser.runtime.files import write_text
from metaser.training import methods

#: The columns that are text, and those that are numbers, wherever they are; others hold what they hold.
TEXT = ("experiment", "variant", "algorithm", "protocol", "data", "source", "target", "corpus", "split", "metric", "true",
        "predicted")  # fmt: skip
NUMBERS = ("shots", "seed", "iteration", "mean", "ci95", "n_tasks", "n_seeds", "paper", "count")


#: What tables call a method whose label is its own name.
METHODS = {
    "maml": "MAML", "fomaml": "FOMAML", "reptile": "Reptile", "regmaml": "Reg-MAML", "fmaml": "F-MAML",
    "protonet": "Prototypical network", "matching": "Matching network", "relation": "Relation network",
}  # fmt: skip


class Finished:
    """What a run wrote, read back: the one source of its plots and tables.

    Attributes:
        folder: Its folder.
        metrics: ``metrics.csv``.
        summary: ``summary.csv``.
        settings: Per protocol.
        kind: ``real`` or ``synthetic``.
        collection: Which collection of corpora it used.
        titles: Domain → how tables name it.
        targets: The same, of those that were tested.
        incomplete: ``INCOMPLETE: 2 of 3 models`` where a run is not finished, else nothing.
        facts: ``run.json``.

    Args:
        folder: The results folder, with ``metrics.csv``, ``summary.csv``, ``confusion.csv`` and ``run.json``.
        whole: If not, the long files may be absent, ``metrics.csv`` and ``confusion.csv``, and have no rows then.

    Raises:
        UserError: naming the file that is missing or no longer what a run writes.
    """

    def __init__(self, folder: Path, whole: bool = True) -> None:
        refuse_mixed(folder)
        self.folder = folder
        self.metrics = self._read("metrics", METRICS, whole)
        self.summary = self._read("summary", SUMMARY)
        twice = self.summary.duplicated([*KEYS, "metric"])
        if twice.any():
            raise UserError(f"{folder / 'summary.csv'}, row {row_of(twice)}: this number is there twice")
        self.facts = facts = read_facts(folder, Facts)
        try:
            self.settings = {name: methods.experiment(settings) for name, settings in facts.settings.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder / 'run.json'}: is not what a run writes ({first_line(error)})") from None
        self.kind, self.collection, self.titles = facts.data.kind, facts.data.collection, facts.data.domains
        part = facts.incomplete
        self.incomplete = f"INCOMPLETE: {part.finished} of {part.models} models" if part else ""
        tested = set(self.summary["target"])
        self.targets = {target: title for target, title in self.titles.items() if target in tested}
        frames = {"summary": self.summary}
        if self.first.data.emotions:  # tasks with classes of their own each have no counts to add up
            self._confusion = frames["confusion"] = self._read("confusion", CONFUSION, whole)
        for name, frame in frames.items():
            strange = ~frame["target"].isin(list(self.targets))
            if strange.any():
                raise UserError(f"{folder / name}.csv, row {row_of(strange)}: run.json has no domain "
                                f"{str(frame['target'][strange].iloc[0])[:80]!r}")  # fmt: skip

    def _read(self, name: str, columns: Sequence[str], needed: bool = True) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        return read_results(path, columns) if needed or path.exists() else pd.DataFrame(columns=list(columns))

    @property
    def first(self) -> Experiment:
        """The settings of the first protocol, for what all protocols share."""
        return next(iter(self.settings.values()))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """``tasks.csv``."""
        return read_results(self.folder / "tasks.csv", (*KEYS, "seed", "corpus", "task"))

    @property
    def what(self) -> str:
        """What speech the numbers are of; neither synthetic data nor a part of a run are ever shown without that word."""
        speech = "real speech" if self.kind == "real" else "SYNTHETIC data"
        return f"{speech}, {self.incomplete}" if self.incomplete else speech

    def names(self, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """Algorithm → how tables name it, in the order of ``compare``, for run.json sorts the algorithms.

        Args:
            known: The experiment's own names; others are named by `METHODS` where the label is the method's, else by the label.
        """
        usual = {label: METHODS.get(label, label) for label, own in self.first.algorithms.items() if own.name == label}
        return {
            label: known.get(label, usual.get(label, label)) for label in self.first.compare or self.first.algorithms
        }

    def confusions(self) -> dict[tuple[str, str], pd.DataFrame]:
        """("protocol, algorithm", target's title) → counts of all seeds, true classes as rows, predicted as columns."""
        found = {}
        for (protocol, algorithm, target), rows in self._confusion.groupby(
            ["protocol", "algorithm", "target"], sort=False
        ):
            counts = rows.pivot_table(index="true", columns="predicted", values="count", aggfunc="sum", fill_value=0)
            classes, fixed = self.first.data.emotions, self.first.tasks.fixed
            # Few tasks may miss an emotion, but no fixed class.
            whole = set(fixed) <= set(counts.index) == set(counts.columns) <= {*classes, *fixed}
            if not whole or not (counts.sum(axis=1) > 0).all():
                raise UserError(f"{self.folder / 'confusion.csv'}: the counts of {protocol}, {algorithm}, {target} are not "
                                f"those of {', '.join((*classes, *fixed))}")  # fmt: skip
            found[f"{protocol}, {algorithm}", self.targets[str(target)]] = counts
        return found

    def constant_answer(self) -> tuple[float, float]:
        """How often the commonest answer is right, over all query clips and over the emotions' alone; in any cell at most."""
        cells = [counts.sum(axis=1) for counts in self.confusions().values()]
        fixed = list(self.first.tasks.fixed)
        emotions = [clips.drop(fixed) for clips in cells]
        return max(float(c.max() / c.sum()) for c in cells), max(float(c.max() / c.sum()) for c in emotions)


def draw(render: Callable[[Finished, pd.DataFrame], None], finished: Finished, paper: pd.DataFrame) -> None:
    """Has an experiment draw a run, and sees to it that ``table.md`` says what must not be missed.

    Args:
        render: The experiment's.
        finished: The run.
        paper: The published numbers for its variant.

    Raises:
        UserError: if ``table.md`` cannot be read or written.
    """
    render(finished, paper)
    path, notes = finished.folder / "table.md", []
    if finished.incomplete:
        notes.append(f"**{finished.incomplete}** are in this table; the same command goes on with the others.")
    processors = finished.facts.processors
    if len(processors) > 1:
        notes.append(f"The models were made by {len(processors)} kinds of processors, so that last digits may differ: "
                     f"{'; '.join(processors)}.")  # fmt: skip
    if notes and path.exists():
        write_text(path, "\n\n".join([*notes, path.read_text(encoding="utf-8")]))


def read_results(path: Path, columns: Sequence[str] = KEYS) -> pd.DataFrame:
    """A results file.

    Args:
        path: Which.
        columns: Those that it needs.

    Raises:
        UserError: naming it, if it cannot be read, lacks a column, or holds something else where a number should be.
    """
    try:
        names = pd.read_csv(path, nrows=0).columns
        frame = unguarded(pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False,
                                      na_values={name: ["", "nan"] for name in names if name not in TEXT}))  # fmt: skip
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read as results ({first_line(error)})") from None
    for column in columns:
        if column not in frame.columns:
            raise UserError(
                f"{path}: lacks the column {column}; a file of its kind begins with {', '.join(columns)[:400]}"
            )
    if frame.empty or not isinstance(frame.index, pd.RangeIndex):
        raise UserError(f"{path}: {'holds no rows' if frame.empty else 'has rows with more fields than the header'}")
    for column in (name for name in frame.columns if name in NUMBERS):
        values = numbers(frame[column])
        wrong = (
            values.isna() & frame[column].notna() | np.isinf(values) | (values.isna() if column == "mean" else False)
        )
        if wrong.any():
            raise UserError(f"{path}, row {row_of(wrong)}: {column} is no number")
        frame[column] = values
    return frame


def numbers(column: pd.Series) -> pd.Series:
    """A column as numbers, NaN where it holds none."""
    if pd.api.types.is_integer_dtype(column):
        return column
    try:
        return pd.to_numeric(column, errors="coerce").astype(float)
    except (OverflowError, TypeError, ValueError):  # an integer of hundreds of digits
        return pd.Series(np.nan, index=column.index)


def row_of(wrong: pd.Series) -> int:
    """The first row of a CSV file that is marked, as an editor numbers it."""
    return int(wrong.to_numpy().argmax()) + 2
