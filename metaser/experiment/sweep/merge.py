"""The merged results of a sweep's finished cells: one set of CSV files, a table, and where every number is from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from metaser.experiment.sweep.cell import Cell
from metaser.experiment.sweep.grid import Grid
from metaser.experiment.sweep.settings import Sweep
from metaser.reporting import results, tables
from metaser.reporting.finished import read_results
from metaser.reporting.paired import PAIRED, paired
from metaser.runtime.files import read_json, write_text
from metaser.runtime.provenance import provenance

#: The metrics of the table; the CSV files have all.
SHOWN = {"accuracy": "accuracy, all classes", "accuracy_emotions": "accuracy, emotions only",
         "macro_f1": "macro-F1, all classes", "uar": "UAR, all classes"}  # fmt: skip

#: What has a table of its own.
PLACE = ("variant", "protocol")

#: The metric of the table's paired tests.
COMPARED = "accuracy"


def merge(sweep: Sweep, grid: Grid, folder: Path, failed: Mapping[str, str]) -> None:
    """Writes ``metrics.csv``, ``summary.csv``, ``paired.csv``, ``table.md`` and ``run.json`` from the cells that are done.

    Args:
        sweep: Its settings.
        grid: Its cells, one of which is done at least.
        folder: Where to.
        failed: Cell's key → why it failed.

    Raises:
        UserError: if a cell's files are no longer what a run writes, or a file cannot be written.
    """
    done = [cell for cell in grid.cells if cell.done]
    metrics, scores = (
        pd.concat([read_results(cell.results / f"{name}.csv") for cell in done], ignore_index=True)
        for name in ("metrics", "tasks")
    )
    summary = tables.summarise(scores, tables.read_paper(grid.experiment / "paper.csv"))
    tests = paired(scores)
    facts = {cell.key: read_json(cell.results / "run.json") for cell in done}
    results.write_csv(metrics[list(results.METRICS)], folder / "metrics.csv")
    results.write_csv(summary, folder / "summary.csv")
    results.write_csv(readable(tests), folder / "paired.csv")
    write_text(folder / "table.md", table(grid, summary, tests, facts, len(done)))
    tree = {"sweep": sweep.model_dump(mode="json"), "cells": [row(cell, facts, failed) for cell in grid.cells],
            "data": {"kind": grid.kind, "domains": grid.titles}, **provenance(grid.experiment, grid.device)}  # fmt: skip
    results.write_json(tree, folder / "run.json")


def readable(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests with three digits of each p value, however small it is."""
    values = [name for name in PAIRED if name.startswith("p_")]
    return tests.assign(**{name: [probability(value) for value in tests[name]] for name in values})


def probability(value: float) -> str:
    """``0.00001234`` as "1.23e-05"; nothing for NaN."""
    return f"{value:.3g}" if value == value else ""


def row(cell: Cell, facts: Mapping[str, Any], failed: Mapping[str, str]) -> dict[str, Any]:
    """What ``run.json`` says of a cell: what it is, how it stands, which code and machine its numbers are from."""
    known = facts.get(cell.key)
    state = "done" if known else "failed" if cell.key in failed else "missing"
    more = {name: known.get(name) for name in ("commit", "hardware", "wall_seconds")} if known else {}
    if cell.key in failed:
        more["error"] = failed[cell.key]
    return {"cell": cell.key, "state": state, "variant": cell.variant, "protocol": cell.protocol,
            "algorithm": cell.algorithm, "source": cell.source, "target": cell.target, "seed": cell.seed, **more}  # fmt: skip


def table(grid: Grid, summary: pd.DataFrame, tests: pd.DataFrame, facts: Mapping[str, Any], done: int) -> str:
    """``table.md``: per variant and protocol our numbers, then the paired tests."""
    kind = "real speech" if grid.kind == "real" else "SYNTHETIC data"
    metrics = {name: label for name, label in SHOWN.items() if name in set(summary["metric"])}
    targets = {target: title for target, title in grid.titles.items() if target in set(summary["target"])}
    parts = [f"# Sweep of {grid.experiment.name}, {kind}", about(grid, facts, done)]
    compared = tests[tests["metric"] == COMPARED]
    several = summary.groupby("target")["source"].nunique().max() > 1  # sets of sources, not the other targets
    for place, rows in summary.groupby([*PLACE, *(["source"] if several else [])], sort=False):
        name = ", ".join(f"`{part}`" for part in place if part)
        parts += [f"## {name or 'All'}, {grid.kind} data", tables.ours(rows, metrics, targets, {}), counts(rows)]
        here = compared
        for column, value in zip((*PLACE, "source"), place, strict=False):
            here = here[here[column] == value]
        if len(here):
            parts.append(differences(here, targets))
    if len(tests):
        parts.append(
            "Differences are paired: all algorithms are tested on the same test tasks. p over seeds: Student's paired t over "
            "the seeds' means, from three seeds on; p over tasks: Wilcoxon's signed-rank test, which speaks of these "
            f"networks only, not of the next training. Both are Holm-corrected over all {tests['metric'].value_counts().max()} "
            "comparisons of a metric in this sweep; `paired.csv` has every metric."
        )  # fmt: skip
    return "\n\n".join(parts) + "\n"


def about(grid: Grid, facts: Mapping[str, Any], done: int) -> str:
    """Which cells, which speech, and what the intervals are."""
    missing = len(grid.cells) - done
    lines = [f"{done} of {len(grid.cells)} cells (algorithm × target × variant × protocol × seed)"
             + (f"; **{missing} missing**, see `run.json`." if missing else ".")]  # fmt: skip
    if grid.kind == "synthetic":
        lines.append("**These data are SYNTHETIC** (invented languages); the numbers say nothing about speech.")
    commits = sorted({str(fact.get("commit", "")) for fact in facts.values()})
    if len(commits) > 1:
        lines.append(f"The cells were run by {len(commits)} states of the code: {', '.join(commits)}.")
    lines.append("Mean ± half width of the 95 % interval (Student's t; over seeds where there are several, over tasks where "
                 "that is wider; with one seed it covers the test tasks only).")  # fmt: skip
    return " ".join(lines)


def counts(rows: pd.DataFrame) -> str:
    """How many tasks and seeds the numbers are of, which differ while cells are missing."""

    def span(name: str) -> str:
        low, high = int(rows[name].min()), int(rows[name].max())
        return str(low) if low == high else f"{low} to {high}"

    chosen = rows[rows["metric"].isin(list(SHOWN))]
    rows = chosen if len(chosen) else rows
    return f"{span('n_tasks')} test tasks, {span('n_seeds')} seed(s) per number."


def differences(tests: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The paired tests of one variant, protocol and metric, in per cent."""
    header = [f"difference of {SHOWN[COMPARED]}, %", "target", "difference", "p, seeds", "p, tasks"]
    rows = [[f"{test['algorithm']} − {test['against']}", titles[test["target"]],
             tables.percent(test["difference"], test["ci95"]),
             *(probability(test[name]) or "–" for name in ("p_seeds_holm", "p_tasks_holm"))]
            for test in tests.to_dict("records")]  # fmt: skip
    return tables.markdown(header, rows)
