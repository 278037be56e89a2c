"""The cells of a sweep, every one checked before the first is run."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaser.config import Data
from metaser.config.study import Study
from metaser.experiment import Run
from metaser.experiment.sweep.cell import Cell, as_json
from metaser.experiment.sweep.settings import Sweep, experiment_folder
from metaser.experiment.trials import JOIN, Trial
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


class Draft(Run):
    """All cells of one variant as one run, which is never run: what is there, and what decides each cell's numbers."""

    def prepared(self) -> dict[str, Any]:
        """The identity of the whole, its features in the cache."""
        self._features  # noqa: B018
        return self.identity()

    def cell_identity(self, trial: Trial) -> dict[str, Any]:
        """The part of the whole's identity that is one cell's; where it is computed decides nothing."""
        settings = self.trials.alone(trial)
        features = self._features[self.trials.of(trial).features]
        whole = {name: value for name, value in self.prepared().items() if name != "device"}
        return as_json({**whole, "settings": {trial.protocol: settings.model_dump(mode="json")}, "targets": trial.targets,
                        "features": {features.name: features.digest}})  # fmt: skip


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
    experiment = experiment_folder(sweep, path)
    inline = [f"algorithms={json.dumps(entry)}" for entry in sweep.algorithms or () if any(entry.values())]
    compared = [f"compare={json.dumps(sweep.labels)}"] if sweep.labels else []
    common = (*sweep.set, *inline, *compared)
    cells: list[Cell] = []
    with naming(path):
        study = Study(experiment / "config.yaml", methods)
    for variant in sweep.variants or study.variants or [""]:
        with naming(path):
            check_labels(sweep, study, variant, common)
        # What there is to say of the speech is said once.
        with naming(path), contextlib.redirect_stderr(io.StringIO()) if cells else contextlib.nullcontext():
            draft = Draft(experiment, variant, (*common, *chosen(sweep)), folder, sweep.protocols or (), root)
            cells += list(cells_of(draft, sweep, common, folder / "cells", root))
    return Grid(experiment, cells, draft.targets, draft.speech.kind, draft.device.type)


def chosen(sweep: Sweep) -> Iterator[str]:
    """The sweep's targets and seeds as overrides, where it names them. JSON keeps Norwegian (no) a string."""
    if sweep.targets:
        yield f"data.targets={json.dumps(sweep.targets)}"
    if sweep.seeds:
        yield f"seeds={json.dumps(sweep.seeds)}"


def cells_of(draft: Draft, sweep: Sweep, common: tuple[str, ...], cells: Path, root: Path | None) -> Iterator[Cell]:
    """The cells of one variant.

    Raises:
        UserError: if a class has too few clips.
    """
    for trial in draft.trials.all():
        draft.trials.samplers(trial)
        sets = source_sets(draft.settings[trial.protocol].data, trial)
        overrides = (*common, f"data.targets={json.dumps(trial.targets)}", f"data.source_sets={json.dumps(sets)}",
                     f"seeds=[{trial.seed}]")  # fmt: skip
        identity = draft.cell_identity(trial)
        yield Cell(draft.folder, draft.variant, trial.protocol, trial.algorithm, trial.target, trial.seed, overrides, identity,
                   cells, root, sweep.checkpoint_every, trial.source if sets else "")  # fmt: skip


def source_sets(settings: Data, trial: Trial) -> tuple[tuple[str, ...], ...]:
    """Of several sets of sources the cell's own; none where there are not several."""
    return (tuple(trial.source.split(JOIN)),) if settings.source_sets else ()


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


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has errors begin with the file that they are in."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
