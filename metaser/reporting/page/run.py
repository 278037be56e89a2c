"""A run or a measurement as the page shows it: everything is read from its files, nothing is typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from metaser.reporting.facts import Origin, read_facts
from metaser.reporting.finished import Finished, read_results, row_of
from metaser.reporting.page import compare, facts, markup
from metaser.reporting.page.naming import Names, known
from metaser.reporting.page.pictures import picture
from metaser.reporting.results import SUMMARY
from metaser.runtime.errors import UserError


class Shown:
    """A folder of results on the page: a measurement, or what a run has in common with one.

    Attributes:
        title: What it is; no other folder of the page has the same.
        path: Its folder, from the results folder on.
        anchor: Its place in the page.
        kind: What its numbers are of.
        real: Whether that can be set beside a paper's.
        facts: What made it, each fact with its lines.
        headline: Its first row of numbers.
        tally: How many published values its intervals cover, lie above and below.
        body: Its ``table.md``, and the paper's values beside ours.
        details: What is folded away, each part with its title.
        tabled: Plots that are shown as tables instead.

    Args:
        folder: The folder.
        results: The results folder that it is in.

    Raises:
        UserError: naming a file of it that cannot be read.
    """

    kind, real, tally = "measured", True, ""
    details: Sequence[tuple[str, Markup]] = ()
    tabled: Sequence[str] = ()

    def __init__(self, folder: Path, results: Path) -> None:
        self.folder, within = folder, folder.relative_to(results)
        self.place = Path(results.resolve().name or "results") / within
        self.path = within.as_posix()
        self.anchor = quote(self.path)
        try:
            text = (folder / "table.md").read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise UserError(f"{folder / 'table.md'}: cannot be read; `metaser render` writes a run's again") from None
        self.title, self.headline = markup.title(text) or self.path, markup.headline(text)
        self.body = markup.html(text, self.kind)
        self.facts = {"Made by": facts.origin(read_facts(folder, Origin))}

    @property
    def plots(self) -> list[tuple[str, tuple[str, int, int]]]:
        """(name, picture) of each plot that is not shown as tables."""
        paths = sorted(self.folder.glob("[!.]*.png"))
        return [(path.stem, picture(path)) for path in paths if path.stem not in self.tabled]


class ShownRun(Shown):
    """A finished run on the page.

    Args:
        folder: Its folder.
        results: The results folder that it is in.
        experiments: The folder of the experiments; one that is not there has no names of its own and no paper.
    """

    def __init__(self, folder: Path, results: Path, experiments: Path) -> None:
        finished = Finished(folder, whole=False)
        self.kind, self.real = facts.kind(finished), finished.kind == "real"
        super().__init__(folder, results)
        check(finished)
        own = [part for part in (finished.first.experiment, finished.first.variant) if part]
        within = "/".join(self.path.split("/")[: -len(own) - 1])  # where a run is one of several of its variant
        self.title = f"{' '.join(own)}{within and f' ({within})'}: {self.title}"
        module, protocols, paper = known(experiments / finished.first.experiment)
        self.facts = {
            "Command": [facts.command(finished, self.place, protocols)],
            "Data": facts.data(finished),
            **{f"Protocol {name}" if name else "Tasks": [facts.protocol(settings)] for name, settings in finished.settings.items()},
            **self.facts,
        }  # fmt: skip
        path = folder / "timing.csv"
        times = read_results(path, SUMMARY) if path.exists() else finished.summary[:0]
        numbers = pd.concat([finished.summary.assign(judged=True), times.assign(judged=False)])
        self.names = Names(finished, numbers, module)
        paper = paper[(paper["variant"] == finished.first.variant) & self.real]
        compared = compare.compare(numbers, paper)
        self.tally = compare.tally(compared)
        if len(compared):
            self.body += markup.html(
                f"## The paper's values and ours\n\n{self.tally}\n\n{compare.beside(compared, self.names)}", self.kind
            )
        matrices = self._matrices(finished)
        self.tabled = ("confusion",) if matrices else ()
        self.details = [*self._numbers(finished, finished.summary, "All numbers"), *self._numbers(finished, times, "Times"),
                        *matrices]  # fmt: skip

    def _numbers(self, finished: Finished, rows: pd.DataFrame, what: str) -> list[tuple[str, Markup]]:
        """All rows of a file, a table per protocol."""
        found = []
        for protocol in rows["protocol"].unique():
            here = rows[rows["protocol"] == protocol]
            targets = dict.fromkeys([*finished.targets, *here["target"]])
            title = f"{what}, protocol {protocol}" if protocol else what
            found.append((title, markup.html(compare.everything(here, targets, self.names), f"{title} · {self.kind}")))
        return found

    def _matrices(self, finished: Finished) -> list[tuple[str, Markup]]:
        """The confusion matrices, a table per protocol and target."""
        places: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
        for (key, target), counts in finished.confusions().items() if finished.first.data.emotions else ():
            protocol, _, algorithm = key.rpartition(", ")
            places.setdefault((protocol, target), {})[algorithm] = counts
        found = Markup("").join(
            markup.html(compare.matrix(counts, self.names), " · ".join(part for part in (*place, self.kind) if part))
            for place, counts in places.items()
        )
        return (
            [("Confusion matrices, each row in per cent of its true class, all seeds together", found)]
            if places
            else []
        )


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
