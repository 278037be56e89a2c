"""One HTML page of a results folder: every run beside its paper, with its data, protocol and command; no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from metaser.reporting.page.compare import OTHER, SIGNS
from metaser.reporting.page.find import find
from metaser.reporting.page.markup import html
from metaser.reporting.page.run import Shown, ShownRun
from metaser.reporting.tables import escaped, markdown
from metaser.runtime.files import write_text


def report(results: Path, out: Path, experiments: Path) -> None:
    """Writes the page, whole or not at all.

    Args:
        results: The folder that holds the results of all experiments.
        out: The HTML file.
        experiments: The folder of the experiments, for the methods' names and the papers' numbers.

    Raises:
        UserError: if there is no run, or a file of one is not what a run writes.
    """
    write_text(out, page(results, experiments))


def page(results: Path, experiments: Path) -> str:
    """The page's text; the same files give the same text."""
    folders, measured = find(results)
    runs = [ShownRun(folder, results, experiments) for folder in folders]
    groups: dict[str, Sequence[Shown]] = {
        "Real data": [run for run in runs if run.real],
        "SYNTHETIC and stand-in data": [run for run in runs if not run.real],
        "Measurements and sweeps": [Shown(folder, results) for folder in measured],
    }
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("metaser.reporting", "page"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    ).get_template("page.html.j2")  # fmt: skip
    groups = {name: shown for name, shown in groups.items() if shown}
    return template.render(groups=groups, contents=contents(groups), signs=SIGNS, other=OTHER)


def contents(groups: dict[str, Sequence[Shown]]) -> Markup:
    """Everything on the page, each with its first row of numbers and how it compares with its paper."""
    parts = []
    for name, shown in groups.items():
        rows = [[f"[{escaped(one.title)}](<#{one.anchor}>)", one.kind, escaped(one.headline) or "–", one.tally or "–"]
                for one in shown]  # fmt: skip
        parts.append(
            markdown([f"{name} ({len(shown)})", "data", "first row", "the paper's values and our intervals"], rows)
        )
    return html("\n\n".join(parts), links=True)
