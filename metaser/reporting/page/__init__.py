"""One HTML page of a results folder: every run beside its paper, with its data, protocol and command; no network, no script."""

from __future__ import annotations

from pathlib import Path

import jinja2

from metaser.reporting.page.compare import SIGNS
from metaser.reporting.page.find import find
from metaser.reporting.page.run import Shown, ShownRun
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
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("metaser.reporting", "page"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    ).get_template("page.html.j2")  # fmt: skip
    return template.render(
        sections=[("Real data", [run for run in runs if run.real]),
                  ("SYNTHETIC and stand-in data", [run for run in runs if not run.real])],
        measured=[Shown(folder, results) for folder in measured], signs=SIGNS,
    )  # fmt: skip
