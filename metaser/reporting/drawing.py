"""What the experiments' ``render`` functions share: a finished run's plots, its paired tests, the parts of its ``table.md``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from metaser.config import Experiment
from metaser.reporting import plots, tables
from metaser.reporting import trends as over_training
from metaser.reporting.claims import NOTE, claims
from metaser.reporting.finished import Finished
from metaser.reporting.paired import paired
from metaser.reporting.results import write_csv
from metaser.runtime.files import write_text

#: What stands above every table of the synthetic corpus.
INVENTED = (
    "**These data are SYNTHETIC**: invented languages made by metaser; the numbers say nothing about speech, and cannot be "
    "compared with published ones."
)


class Drawing:
    """A finished run as its experiment shows it: every plot and file is written to the run's folder.

    Args:
        finished: The run.
        caption: What the numbers are of; with "SYNTHETIC" where they are of synthetic data.
        names: Algorithm → how tables and legends name it, in their order, such as `Finished.names` gives it.
        stand_in: What stands above the table where the data are not real.
    """

    def __init__(
        self, finished: Finished, caption: str, names: Mapping[str, str], stand_in: str = INVENTED
    ) -> None:  # fmt: skip
        self.finished, self.caption, self.names, self.stand_in = finished, caption, names, stand_in

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Paired tests between all methods, with the columns `metaser.reporting.paired.PAIRED`."""
        return paired(self.finished.scores)

    @cached_property
    def means(self) -> pd.DataFrame:
        """Rows as of ``summary.csv`` for the mean over the targets."""
        return tables.over_targets(self.finished.scores)

    @property
    def note(self) -> str:
        """What the cells of `Protocol.claims` are; nothing where there is one method only."""
        return NOTE if len(self.names) > 1 else ""

    @property
    def protocols(self) -> Iterator[Protocol]:
        """The run's protocols."""
        return (Protocol(self, name, settings) for name, settings in self.finished.settings.items())

    def some(self, labels: Collection[str]) -> Mapping[str, str]:
        """The names of these methods only; of all where the run has none of them."""
        return {label: name for label, name in self.names.items() if label in labels} or self.names

    def csv(self, name: str, frame: pd.DataFrame) -> None:
        """Writes ``NAME.csv``."""
        write_csv(frame, self.finished.folder / f"{name}.csv")

    def table(self, *parts: str) -> None:
        """Writes ``table.md``: the caption as its title, what stands above data that are not real, the parts that are not empty."""
        warning = "" if self.finished.kind == "real" else self.stand_in
        text = "\n\n".join(part for part in (f"# {self.caption}", warning, *parts) if part)
        write_text(self.finished.folder / "table.md", text + "\n")

    # --- plots ---

    def trends(
        self, name: str, metric: str, label: str, only: Collection[str] = (), optima: pd.DataFrame | None = None
    ) -> None:  # fmt: skip
        """``NAME.png``: a metric over the meta-iterations, as `metaser.reporting.trends.trends`.

        Args:
            name: Of the file.
            metric: Which.
            label: Of the vertical axis.
            only: Methods, where the run has any of these.
            optima: As `metaser.reporting.trends.optima` gives them, to be marked.
        """
        finished, path = self.finished, self.finished.folder / f"{name}.png"
        over_training.trends(
            finished.metrics, metric, label, finished.targets, self.some(only), self.caption, path, optima
        )

    def curves(
        self, name: str, split: str, metric: str, labels: tuple[str, str],
        marks: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
    ) -> None:  # fmt: skip
        """``NAME.png``: a metric over what a learner is given, as `metaser.reporting.plots.curves`, where it was measured.

        Args:
            name: Of the file.
            split: Whose rows of ``metrics.csv`` it is, such as ``steps``.
            metric: Which.
            labels: Of the horizontal and the vertical axis.
            marks: (protocol, target) → what is marked → where on the horizontal axis.
        """
        finished, path = self.finished, self.finished.folder / f"{name}.png"
        rows = finished.metrics[finished.metrics["split"] == split]
        if len(rows):
            names = self.some(set(rows["algorithm"]))
            plots.curves(rows, metric, labels, finished.targets, names, self.caption, path, marks)

    def bars(self, name: str, metrics: Mapping[str, str], constant: Sequence[float]) -> None:
        """``NAME.png``: the test scores with their intervals, as `metaser.reporting.plots.bars`."""
        finished, path = self.finished, self.finished.folder / f"{name}.png"
        plots.bars(finished.summary, metrics, finished.targets, constant, self.names, self.caption, path)

    def confusions(self, name: str, only: Collection[str] = ()) -> None:
        """``NAME.png``: confusion matrices; of these methods only, where the run has any of them."""
        found, labels = self.finished.confusions(), self.some(only)
        chosen = {key: counts for key, counts in found.items() if key[0].split(", ")[1] in labels}
        plots.confusions(chosen or found, self.caption, self.finished.folder / f"{name}.png")


@dataclass(frozen=True)
class Protocol:
    """A protocol's part of ``table.md``.

    Attributes:
        drawing: Of the run.
        name: The protocol.
        settings: Its settings.
    """

    drawing: Drawing
    name: str
    settings: Experiment

    @property
    def heading(self) -> str:
        """Its heading."""
        return f"## Protocol `{self.name}`, {self.drawing.finished.kind} data"

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The protocol's rows of a results file."""
        return frame[frame["protocol"] == self.name]

    @property
    def summary(self) -> pd.DataFrame:
        """The protocol's rows of ``summary.csv``."""
        return self.rows(self.drawing.finished.summary)

    def scores(self, metrics: Mapping[str, str], mean: bool = False) -> str:
        """A table per metric, as `metaser.reporting.tables.metric`.

        Args:
            metrics: Metric → its title.
            mean: With a column of the mean over the targets, where there are several.
        """
        titles, rows = self.drawing.finished.targets, self.summary
        if mean and len(titles) > 1:
            titles, rows = {**titles, tables.MEAN: tables.MEAN}, pd.concat([rows, self.rows(self.drawing.means)])
        return "\n\n".join(
            tables.metric(rows, metric, title, titles, self.drawing.names) for metric, title in metrics.items()
        )

    def claims(
        self, pairs: Sequence[tuple[str, str]], says: str, metrics: Mapping[str, str], source: str | None = None
    ) -> str:  # fmt: skip
        """Which method is better, as `metaser.reporting.claims.claims`.

        Args:
            pairs: (one, other); one − other is claimed to be positive.
            says: Whose claim it is, and the unit.
            metrics: Metric → how the table names it.
            source: Of which set of sources, where a target has several.
        """
        tests = self.rows(self.drawing.tests)
        tests = tests if source is None else tests[tests["source"] == source]
        return claims(tests, pairs, says, metrics, self.drawing.finished.targets, self.drawing.names)
