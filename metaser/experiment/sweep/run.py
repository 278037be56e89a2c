"""``metaser sweep``: runs the cells that are not done, says which failed, and merges those that are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from metaser.experiment.sweep import executors
from metaser.experiment.sweep.cell import LOG, UNFINISHED, Cell, work
from metaser.experiment.sweep.grid import Grid
from metaser.experiment.sweep.grid import grid as grid_of
from metaser.experiment.sweep.merge import merge
from metaser.experiment.sweep.settings import Sweep, read
from metaser.experiment.sweep.slurm import Queue
from metaser.reporting.tables import markdown
from metaser.runtime.files import alone, expanded, remove_unfinished, writable_folder
from metaser.runtime.progress import progress, say


def sweep(path: Path, out: Path = Path("results"), root: Path | None = None) -> bool:
    """Runs a sweep, or what is left of it.

    Args:
        path: The ``sweep.yaml``.
        out: The folder that holds the results of everything; the sweep's are in ``out/sweeps/<name>``.
        root: The data root, before that of the configuration and METASER_DATA.

    Returns:
        Whether all cells are done. One that failed stops no other.

    Raises:
        UserError: for a mistake in the sweep, the experiment or the corpora, or if another process is at this sweep;
            before anything is run.
    """
    settings = read(path)
    name = settings.name or path.stem
    folder = expanded(str(out), "--results") / "sweeps" / name
    root = expanded(str(root), "--root") if root else None
    queue = Queue(folder, settings.slurm, name) if settings.executor == "slurm" else None
    grid = grid_of(settings, path, folder, root)
    with alone(writable_folder(folder, "the results folder (--results)"), "sweep"):
        remove_unfinished(folder)
        failed = run_cells(settings, grid, queue)
        done = sum(cell.done for cell in grid.cells)
        if done:
            merge(settings, grid, folder, {cell.key: reason for cell, reason in failed})
            print((folder / "table.md").read_text(encoding="utf-8"))
        report(failed)
        print(f"{done} of {len(grid.cells)} cells are done" + (f"; written to {shown(folder)}" if done else ""))
        return done == len(grid.cells)


def run_cells(settings: Sweep, grid: Grid, queue: Queue | None = None) -> list[tuple[Cell, str]]:
    """Runs what is not done; the cells that failed, in the grid's order, each with the reason.

    Args:
        settings: Where and how.
        grid: The cells.
        queue: Slurm's, for ``executor: slurm``.
    """
    left = [cell for cell in grid.cells if not cell.done]
    say(f"{len(grid.cells)} cells, {len(grid.cells) - len(left)} of them done before")
    if not left:
        return []
    reasons: dict[str, str] = {}
    count = 0
    with contextlib.nullcontext() if settings.executor == "debug" else progress("cells", len(left)) as update:

        def ended(cell: Cell, how: str) -> None:
            nonlocal count
            count += 1
            if not cell.done:
                reasons[cell.key] = cell.error() or how or UNFINISHED
            if update:  # not where a cell's output and the bar would go through the same door
                update(count, len(left))

        if queue:
            queue.run(left, ended)
        elif settings.executor == "debug":
            for cell in left:  # in this process, where a debugger can follow them
                work(cell)
                ended(cell, "")
        else:
            executors.local(left, settings.workers, grid.device, ended)
    return [(cell, reasons[cell.key]) for cell in left if cell.key in reasons]


def report(failed: Sequence[tuple[Cell, str]]) -> None:
    """A table of the cells that failed, on standard error: which, why, and where its log is."""
    if failed:
        rows = [(str(cell), reason, shown(cell.folder / LOG)) for cell, reason in failed]
        print(f"metaser: {len(failed)} of the cells failed; the same command tries them again\n", file=sys.stderr)
        print(markdown(["cell", "error", "log"], rows), file=sys.stderr)


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
