"""A finished run as the page shows it: everything is read from its files, nothing is typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from metaser.config import Experiment
from metaser.reporting.finished import Finished, read_results, row_of
from metaser.reporting.page import embed, facts
from metaser.reporting.page.compare import Published, Table, compare, is_share, tally
from metaser.reporting.page.naming import TITLES, known, names, titles
from metaser.reporting.page.published import as_published
from metaser.reporting.results import SUMMARY
from metaser.runtime.errors import UserError
from metaser.runtime.files import read_json


@dataclass(frozen=True)
class Protocol:
    """One protocol of a run: its name, what it is, its tables (those that are looked at first, the others), its times."""

    name: str
    about: str
    main: list[Table]
    others: list[Table]
    times: list[Table]

    @property
    def tally(self) -> list[tuple[bool, dict[str, int]]]:
        """How many published values our intervals cover, lie above and below; see `compare.tally`."""
        return tally([*self.main, *self.others])


class Shown:
    """A folder of results on the page.

    Args:
        folder: The folder.
        results: The results folder that it is in.

    Raises:
        UserError: naming a file of it that cannot be read.
    """

    def __init__(self, folder: Path, results: Path) -> None:
        self.folder, within = folder, folder.relative_to(results)
        self.place = Path(results.resolve().name or "results") / within
        self.path = within.as_posix()
        self.anchor = quote(self.path)
        try:
            text = (folder / "table.md").read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise UserError(f"{folder / 'table.md'}: cannot be read; `metaser render` writes it anew") from None
        self.title, self.notes = embed.title(text) or self.path, embed.notes(text)
        self.run = read_json(folder / "run.json")
        self.origin = facts.origin(folder, self.run)

    @property
    def plots(self) -> list[tuple[str, tuple[str, int, int]]]:
        """(name, picture) of each plot."""
        return [(path.stem, embed.picture(path)) for path in sorted(self.folder.glob("[!.]*.png")) if self.wants(path)]

    def wants(self, _: Path) -> bool:
        """Whether a plot is shown."""
        return True


class ShownRun(Shown):
    """A finished run on the page.

    Args:
        folder: Its folder.
        results: The results folder that it is in.
        experiments: The folder of the experiments; one that is not there has no names of its own and no paper.
    """

    def __init__(self, folder: Path, results: Path, experiments: Path) -> None:
        self.finished = finished = Finished(folder, whole=False)
        super().__init__(folder, results)
        check(finished)
        module, protocols, paper = known(experiments / finished.first.experiment)
        self.names, self.kind = names(finished, module), facts.kind(finished)
        self.real = finished.kind == "real"
        self.paper = paper[paper["variant"] == finished.first.variant] if self.real else paper[:0]
        self.published = {(row["algorithm"], row["target"], row["metric"]): Published(row["value"], row["corpus"], row["reference"])
                          for row in self.paper.to_dict("records")}  # fmt: skip
        self.as_published = as_published(self.paper, TITLES, {**self.names, **getattr(module, "PAPER_NAMES", {})})
        self.data = facts.data(finished, self.run)
        self.command = facts.command(finished, self.run, self.place, protocols)
        path = folder / "timing.csv"
        self._times = read_results(path, SUMMARY) if path.exists() else pd.DataFrame(columns=list(SUMMARY))
        self.protocols = [self._protocol(name, settings) for name, settings in finished.settings.items()]
        self.confusions = finished.confusions() if finished.first.data.emotions else {}

    def wants(self, path: Path) -> bool:
        """Confusion matrices are shown as tables."""
        return path.stem != "confusion" or not self.confusions

    def _protocol(self, name: str, settings: Experiment) -> Protocol:
        rows, times = (frame[frame["protocol"] == name] for frame in (self.finished.summary, self._times))
        metrics = titles(rows, settings)
        compared = {*rows.loc[rows["paper"].notna(), "metric"], *(metric for *_, metric in self.published)}
        first = {metric: title for metric, title in metrics.items()
                 if metric in compared or (is_share(metric) and not metric.startswith("recall_"))}  # fmt: skip
        others = {metric: title for metric, title in metrics.items() if metric not in first}
        targets = {**{target: target for target in times["target"]}, **self.finished.targets}
        main, more = (
            compare(rows, chosen, self.finished.targets, self.names, self.published) for chosen in (first, others)
        )
        paces = compare(times, titles(times, settings), targets, self.names, {}, judged=False)
        return Protocol(name, facts.protocol(settings), main, more, paces)

    def label(self, key: str) -> str:
        """A key of `Finished.confusions`, "protocol, algorithm", with the algorithm's name."""
        protocol, _, algorithm = key.rpartition(", ")
        return ", ".join(part for part in (protocol, self.names.get(algorithm, algorithm)) if part)


def check(finished: Finished) -> None:
    """Refuses numbers that ``run.json`` does not know of, so that none is left out or stands among others' data.

    Raises:
        UserError: naming the row of ``summary.csv``.
    """
    for column, known_there in (("protocol", list(finished.settings)), ("data", [finished.kind])):
        strange = ~finished.summary[column].isin(known_there)
        if strange.any():
            value = str(finished.summary[column][strange].iloc[0])[:80]
            raise UserError(f"{finished.folder / 'summary.csv'}, row {row_of(strange)}: {column} {value!r} is none of run.json's, "
                            f"{', '.join(map(repr, known_there))}")  # fmt: skip
