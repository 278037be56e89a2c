"""The cells of a sweep, every one checked before the first is run."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaser.config.study import Study
from metaser.experiment import Run
from metaser.experiment.sweep.cell import Cell, movable
from metaser.experiment.sweep.settings import Sweep, experiment_folder
from metaser.experiment.trials import JOIN
from metaser.runtime.errors import UserError, nearest
from metaser.training import methods


@dataclass(frozen=True)
class Grid:
    """What a sweep is made of.

    Attributes:
        experiment: The experiment's folder.
        cells: Variant by variant, in the order in which `metaser run` goes through them.
        titles: Target → how a table names it.
        kind: ``real`` or ``synthetic``.
        device: Where this machine would train: ``cpu`` or ``cuda``.
    """

    experiment: Path
    cells: list[Cell]
    titles: dict[str, str]
    kind: str
    device: str


def grid(sweep: Sweep, path: Path, folder: Path, root: Path | None = None) -> Grid:
    """Every cell, and what the table says of them all.

    Args:
        sweep: What ``path`` says.
        path: The ``sweep.yaml``, which errors name.
        folder: The sweep's results folder.
        root: The data root, before that of the configuration and METASER_DATA.

    Raises:
        UserError: for any mistake in the sweep, the experiment's configuration or the corpora; nothing was run then.
    """
    try:
        experiment = experiment_folder(sweep, path)
        study = Study(experiment / "config.yaml", methods)
        inline = [f"algorithms={json.dumps(entry)}" for entry in sweep.algorithms or () if any(entry.values())]
        common = (*sweep.set, *inline, *overrides({"compare": sweep.labels}))
        wanted = (*common, *overrides({"data.targets": sweep.targets, "seeds": sweep.seeds}))
        cells: list[Cell] = []
        for variant in sweep.variants or study.variants or [""]:
            check_labels(sweep, study, variant, common)
            # What there is to say of the speech is said once.
            with contextlib.redirect_stderr(io.StringIO()) if cells else contextlib.nullcontext():
                run = Run(experiment, variant, wanted, folder, sweep.protocols or (), root)
                cells += cells_of(run, sweep, common, folder / "cells", root)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Grid(experiment, cells, run.targets, run.speech.kind, run.device.type)


def overrides(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Those settings that are given, as ``key=value``. JSON keeps Norwegian (no) a string."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items() if value is not None)


def cells_of(run: Run, sweep: Sweep, common: tuple[str, ...], cells: Path, root: Path | None) -> Iterator[Cell]:
    """The cells of one variant.

    Args:
        run: All of them as one run, which is never run: it says what is there, and what decides each cell's numbers.
        sweep: Their sweep.
        common: The overrides of every cell.
        cells: The folder of all cells.
        root: The data root, where one was given.

    Raises:
        UserError: if a class has too few clips.
    """
    for trial in run.trials.all():
        run.trials.samplers(trial)
        sets = (trial.source.split(JOIN),) if run.settings[trial.protocol].data.source_sets else ()
        own = overrides({"data.targets": trial.targets, "data.source_sets": sets, "seeds": [trial.seed],
                         "compare": [trial.algorithm]})  # fmt: skip
        identity = movable(run.model_identity(trial))
        yield Cell(run.folder, run.variant, trial.protocol, trial.algorithm, trial.target, trial.seed, (*common, *own), identity,
                   cells, root, sweep.checkpoint_every, trial.source if sets else "")  # fmt: skip


def check_labels(sweep: Sweep, study: Study, variant: str, common: tuple[str, ...]) -> None:
    """Refuses an algorithm that the experiment does not have.

    Raises:
        UserError: naming it.
    """
    for label in sweep.labels or ():
        known = study.experiment(variant=variant, overrides=(*common, "compare=[]")).algorithms
        if label not in known:
            raise UserError(f"algorithms: the experiment has none of the name {label!r}; {nearest(label, known)}, or "
                            f"give its settings: {label}: {{name: ..., inner_lr: ..., steps: ...}}")  # fmt: skip
