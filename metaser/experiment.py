"""A run of an experiment: its settings, its speech, its cells (train, test, record), its results folder.

An experiment folder holds ``run.py`` (a function ``run(run: Run)`` that goes through the cells and reports),
``config.yaml`` and ``paper.csv``. What is common to all of them is here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from metaser import models, pictures
from metaser.cells import Cell, Cells
from metaser.config import Experiment, Features
from metaser.corpora.selection import Selection, announce, select
from metaser.engine import device
from metaser.errors import UserError, nearest
from metaser.features import FeatureSet, extract, normalise, recipe
from metaser.files import data_root, read_sealed, write_sealed
from metaser.learners import LEARNERS
from metaser.parallel import Workers
from metaser.pictures import Pictures
from metaser.profiling import profiled
from metaser.progress import progress, say
from metaser.ranks import Ranks
from metaser.reporting import results, tables
from metaser.reporting.finished import Finished
from metaser.study import Study
from metaser.work import CellResult, Work

#: The recipe of pictures, which are taken as they are.
PIXELS = "pixels"

#: What names a model in ``run.json``.
CHOSEN = ("protocol", "algorithm", "source", "target", "seed")


@dataclass(frozen=True)
class Going:
    """How a run goes about its work.

    Attributes:
        resume: Go on with a stopped run of the same configuration; if not, begin anew.
        every: Meta-iterations from one checkpoint to the next; 0 for one a minute.
        profile: Also write ``profile.txt``, where the time of the first model's training goes.
    """

    resume: bool = True
    every: int = 0
    profile: bool = False


class Run:
    """One variant of an experiment on the speech that is there.

    Args:
        experiment: The experiment's folder.
        variant: A key of ``variants`` in its configuration.
        overrides: ``key=value`` settings over all overlays.
        protocols: Which of the configuration's protocols; all when empty.
        root: The data root, before ``data_root`` of the configuration and METASER_DATA.
        out: The folder that holds the results of all experiments.
        going: How it goes about it, which decides no number.

    Raises:
        UserError: for any mistake in the arguments, the configuration or the corpora; before anything is trained.
    """

    #: Domains that must be there: one to test on, and one to train on.
    fewest = 2

    def __init__(
        self, experiment: Path, variant: str, overrides: Sequence[str], out: Path, protocols: Sequence[str] = (),
        root: Path | None = None, going: Going | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.going = experiment, going or Going()
        self.study = Study(experiment / "config.yaml")
        if self.study.variants and not variant:
            raise UserError(f"{self.study.path}: choose a variant with --variant: {', '.join(self.study.variants)}")
        self.variant, self.overrides = variant, tuple(overrides)
        self.protocols = tuple(protocols) or tuple(self.study.protocols)
        drafts = [self._settings(protocol, synthetic=False) for protocol in self.protocols]
        for settings in drafts:
            check_names(settings)
            where = device(settings.engine)
        self.ranks = Ranks.join(where)
        root = data_root(root or drafts[0].data_root)
        if not self.ranks.first:
            self.ranks.tell(None)  # rank 0 makes what has to be made
        self.speech, self._pictures = self._select(drafts[0], root)
        if self.ranks.first:
            announce(self.speech, root)
            self.ranks.tell(None)
        synthetic = self.speech.kind == "synthetic"
        self.settings = {name: self._settings(name, synthetic) for name in self.protocols}
        for settings in self.settings.values():
            absent = self.speech.absent if settings.data.source_sets else ()
            self._check("data.targets", settings.data.targets, absent)
            for names in settings.data.sets:
                self._check("data.source_sets" if settings.data.source_sets else "data.sources", names, absent)
        self.targets = {target: self.speech.titles[target] for target in self.first.data.targets or self.speech.domains
                        if target in self.speech.domains}  # fmt: skip
        self.cells = Cells(self.settings, self.speech, list(self.targets), variant)
        self.paper = tables.read_paper(experiment / "paper.csv")
        self.paper = self.paper[self.paper["variant"] == variant]
        self.results = results.ResultsFolder(out / self.first.experiment / variant / self.speech.kind)
        self._started = time.monotonic()
        self._provenance = results.provenance(self.folder, self.device.type)  # now: the code may change while it runs
        self._digests: dict[str, str] = {}
        self._done: list[CellResult] = []

    def _select(self, settings: Experiment, root: Path | None) -> tuple[Selection, Pictures | None]:
        if settings.data.pictures:
            with progress("reading pictures") as update:
                return pictures.select(settings.data, root, update)
        with progress("making the built-in corpus") as update:
            return select(settings.data, settings.tasks, root, update, self.fewest), None

    def _settings(self, protocol: str, synthetic: bool) -> Experiment:
        return self.study.experiment(
            variant=self.variant, protocol=protocol, synthetic=synthetic, overrides=self.overrides
        )

    @property
    def first(self) -> Experiment:
        """The settings of the first protocol, for what all protocols share."""
        return self.settings[self.protocols[0]]

    @property
    def device(self) -> torch.device:
        """Where the networks are trained."""
        return device(self.first.engine)

    def _check(self, key: str, names: Sequence[str], absent: Sequence[str]) -> None:
        """Refuses a domain that is not there, and is no corpus that could be.

        Raises:
            UserError: with the nearest that is.
        """
        for name in names:
            if name not in self.speech.domains and name not in absent:
                raise UserError(f"{key}: no domain {name!r} here; {nearest(name, self.speech.domains)}")

    @cached_property
    def _features(self) -> dict[Features, FeatureSet]:
        """By their settings, which several algorithms may share."""
        wanted = [settings.of(label).features for settings in self.settings.values() for label in settings.algorithms]
        return {one: self._extract(one) for one in dict.fromkeys(wanted)}

    def features(self, cell: Cell) -> FeatureSet:
        """Of all clips, normalised as a cell's settings say; on the device that is to compute."""
        return self._features[self.cells.of(cell).features]

    def _extract(self, settings: Features) -> FeatureSet:
        if self._pictures:
            self._digests[PIXELS] = self._pictures.digest
            lengths = torch.full((len(self._pictures.x),), self._pictures.x.shape[2])
            return FeatureSet(
                self._pictures.x.to(self.device), lengths, self._pictures.table, PIXELS, self._digests[PIXELS]
            )
        chosen = recipe(settings.recipe, backend=settings.backend)
        with progress(f"extracting features ({chosen.name})") as update:
            features = extract(self.speech.table, chosen, update)
        self._digests[chosen.name] = features.digest
        features = normalise(features, settings.normalise)
        return replace(features, x=features.x.to(self.device))

    def writing(self) -> AbstractContextManager[Path]:
        """The folder to write into, with what a stopped run of the same configuration left in it."""
        for protocol, settings in self.settings.items() if self.ranks.first else ():
            nameless = (self.speech.table["speaker"] == "").sum() if settings.tasks.speakers == "disjoint" else 0
            if nameless:
                say(f"{protocol}: {nameless} clips without a known speaker are left out")
        if not self.ranks.first:
            self.ranks.tell(None)  # rank 0 has the features in the cache, and the folder
            self._features  # noqa: B018
            return nullcontext(self.results.path)
        self._features  # noqa: B018  (an unreadable clip is found before anything is trained)
        return self._leading()

    @contextmanager
    def _leading(self) -> Iterator[Path]:
        with self.results.writing(self.identity(), self.going.resume) as folder:
            self.ranks.tell(None)
            yield folder

    def carry_out(self, render: Callable[[Finished, pd.DataFrame], None]) -> None:
        """All of an experiment: trains and tests every cell, writes the CSV files, has plots and ``table.md`` made, shows it.

        Args:
            render: Draws a finished run, with the paper's numbers for its variant.
        """
        with self.writing() as folder:
            self.all_cells()
            if not self.ranks.first:
                return
            self.write(folder)
            render(Finished(folder), self.paper)
        print((self.results.final / "table.md").read_text(encoding="utf-8"))
        pace = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.pace().items())
        if pace:  # else no method has an outer loop
            print(f"time per 100 epochs (meta-iterations): {pace}")
        print(f"written to {self.results.final}")

    def identity(self) -> dict[str, Any]:
        """All that decides the run's numbers: a stopped run goes on only where this is the same."""
        return {
            "settings": {name: settings.model_dump(mode="json") for name, settings in self.settings.items()},
            "targets": list(self.targets),
            "features": self._digests,
            "versions": {name: metadata.version(name) for name in ("metaser", "torch", "learn2learn", "numpy")},
            "device": self.device.type,
        }

    def all_cells(self) -> None:
        """Trains and tests every cell that is not yet done; call it inside `writing`.

        Raises:
            UserError: if a class is too small (before the first cell is trained), or training diverges.
        """
        cells = self.cells.all()
        if not cells:
            raise UserError(f"data.source_sets: no set of sources and no target is there whole; not there: "
                            f"{', '.join(self.speech.absent)} (`metaser data list` says where to get them)")  # fmt: skip
        for cell in cells:
            self.cells.samplers(cell)
        files = [self.results.path / results.CELLS / f"{number:04}.json" for number in range(len(cells))]
        known = [read_sealed(file) if self.ranks.first else None for file in files]
        left = self.ranks.tell([cell is None for cell in known])
        steps = [self._steps(cell) if to_do else 0 for cell, to_do in zip(cells, left, strict=True)]
        total, path = sum(steps), self.results.path / "profile.txt" if self.going.profile and self.ranks.first else None
        with (
            Workers(1 if self.device.type == "cuda" else None, self.ranks) as workers,
            profiled(path, self.device.type == "cuda") as seen,
            progress(f"{sum(left)} models, meta-iterations and test tasks", total) as update,
        ):

            def advance(before: int, done: int) -> None:
                update(before + done, total)
                if seen:
                    seen()

            for number, (cell, file) in enumerate(zip(cells, files, strict=True)):
                if left[number]:
                    kept = self.results.path / results.CHECKPOINTS / f"{number:04}"
                    work = Work(self.cells, cell, self.features(cell), workers)
                    result = work.carry_out(partial(advance, sum(steps[:number])), kept, self.going.every)
                    if self.ranks.first:
                        write_sealed(file, result)
                        shutil.rmtree(kept, ignore_errors=True)
                        known[number] = read_sealed(file)
                    update(sum(steps[: number + 1]), total)
                if self.ranks.first:
                    done = known[number]
                    assert done is not None, "it was read back or has just been written"
                    self._done.append(CellResult(**done))

    def _steps(self, cell: Cell) -> int:
        """How much work a cell is, for the progress display."""
        settings = self.cells.of(cell)
        return settings.training.iterations + settings.evaluation.tasks * len(cell.targets)

    def write(self, folder: Path) -> None:
        """``metrics.csv``, ``tasks.csv`` (the test tasks), ``summary.csv``, ``confusion.csv``, ``timing.csv``, ``run.json``.

        What was measured with a clock is in the latter two, kept apart so that all other files repeat to the byte.
        """
        rows, scores, counts = (pd.DataFrame([row for cell in self._done for row in getattr(cell, part)])
                                for part in ("rows", "scores", "confusion"))  # fmt: skip
        if scores.empty:
            raise UserError("every model diverged, so there is nothing to report; lower inner_lr or outer_lr")
        results.write_csv(rows[list(results.METRICS)], folder / "metrics.csv")
        results.write_csv(scores, folder / "tasks.csv")
        results.write_csv(tables.summarise(scores, self.paper), folder / "summary.csv")
        if len(counts):
            results.write_csv(counts, folder / "confusion.csv")
        results.write_csv(tables.summarise(self._seconds(), self.paper), folder / "timing.csv")
        results.write_json(self.run_json(), folder / "run.json")

    def _seconds(self) -> pd.DataFrame:
        """Every model's time, also as ``time_ratio`` to the first algorithm's with the same protocol, sources, target, seed."""
        frame, column = pd.DataFrame([cell.seconds for cell in self._done]), "seconds_per_100_epochs"
        first = frame.groupby(["protocol", "source", "target", "seed"], sort=False)[column].transform(
            lambda times: times.iloc[0]
        )
        return frame.assign(time_ratio=frame[column] / first)

    def pace(self) -> dict[str, float]:
        """ "protocol/algorithm" → median over its models of the seconds per 100 meta-iterations."""
        frame = self._seconds().dropna(subset="seconds_per_100_epochs")  # a model that diverged has no time
        medians = frame.groupby(frame["protocol"] + "/" + frame["algorithm"])["seconds_per_100_epochs"].median()
        return {str(name): round(float(value), 3) for name, value in medians.items()}

    def run_json(self) -> dict[str, Any]:
        """``run.json``: configuration, seeds, provenance, data digest, times."""
        return {
            "settings": {name: settings.model_dump(mode="json") for name, settings in self.settings.items()},
            "overrides": list(self.overrides),
            "data": {"kind": self.speech.kind, "collection": self.speech.collection, "domains": self.speech.titles,
                     "clips": self.speech.table["domain"].value_counts().to_dict(),
                     "emotions": {str(domain): rows["emotion"].value_counts().to_dict()
                                  for domain, rows in self.speech.table.groupby("domain") if self.first.data.emotions},
                     "absent": list(self.speech.absent), "features_sha256": self._digests},
            "seconds_per_100_epochs": self.pace(),
            "chosen": {"/".join([*(str(cell.seconds[key]) for key in CHOSEN)]): cell.chosen
                       for cell in self._done if cell.chosen},
            "weights_sha256": [cell.weights_sha256 for cell in self._done],
            "ranks": self.ranks.count,
            "wall_seconds": round(time.monotonic() - self._started, 1),
            **self._provenance,
        }  # fmt: skip


def check_names(settings: Experiment) -> None:
    """Refuses an unknown recipe, network or algorithm before any work is done.

    Raises:
        UserError: with the nearest right name.
    """
    for label, algorithm in settings.algorithms.items():
        own, place = settings.of(label), f"algorithms.{label}."
        if not settings.data.pictures:
            recipe(own.features.recipe, backend=own.features.backend)
        elif own.features != Features(recipe=PIXELS):
            raise UserError(f"features: pictures have none but {{recipe: {PIXELS}}}")
        for key, name, registry in (
            ("model.name" if algorithm.model is None else f"{place}model.name", own.model.name, list(models.MODELS)),
            (f"{place}name", algorithm.name, list(LEARNERS)),
        ):
            if name not in registry:
                raise UserError(f"{key}: unknown name {name!r}; {nearest(name, registry)}")
        for key in ("pretraining", "tuning"):
            if getattr(algorithm, key) and key not in LEARNERS[algorithm.name].fits:
                raise UserError(f"algorithms.{label}.{key}: {algorithm.name} has no use for it; leave it out")
        if own.tasks.order == "own" and not (algorithm.tuning and algorithm.tuning.head == "fresh"):
            raise UserError(f"algorithms.{label}: with order: own the outputs are the sources' classes; to be asked about others "
                            "it needs tuning: {head: fresh}")  # fmt: skip
        if algorithm.name == "fmaml" and (not settings.tasks.fixed or algorithm.fixed_support):
            raise UserError(f"algorithms.{label}: F-MAML needs fixed classes, and keeps them out of the support set; set "
                            "tasks.fixed, such as [silence], and no fixed_support")  # fmt: skip
