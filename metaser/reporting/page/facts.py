"""Where a run's numbers are from, in words: its data, its protocols, its code and machine, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from metaser.config import Experiment
from metaser.corpora.base import SHARED
from metaser.reporting.finished import Finished
from metaser.runtime.errors import UserError

#: What a run's data are; never shown without that word.
KINDS = {"real": "real data", "synthetic": "SYNTHETIC data", "bundled": "STAND-IN data, not the paper's"}

#: Digits of a digest that tell any two data sets apart.
DIGEST = 12


def kind(finished: Finished) -> str:
    """What the numbers are of."""
    return KINDS.get(finished.kind, "SYNTHETIC data")


def data(finished: Finished, run: Any) -> list[str]:
    """Which corpora or images, how many of each, what was not there, and the digests of what the networks were given.

    Args:
        finished: The run.
        run: Its ``run.json``.
    """
    facts = section(run, "data", finished.folder)
    clips, digests = (section(facts, name, finished.folder) for name in ("clips", "features_sha256"))
    counts = [f"{finished.titles.get(domain, 'shared by all' if domain == SHARED else domain)}: {count}"
              f"{emotions(finished.emotions.get(domain, {}))}" for domain, count in clips.items()]  # fmt: skip
    absent = facts.get("absent")
    return [
        f"{kind(finished)}, collection {finished.collection}",
        *([f"{'images' if finished.first.data.images else 'clips'}: {'; '.join(counts)}"] if counts else []),
        *([f"not there: {', '.join(map(str, absent))}"] if isinstance(absent, list) and absent else []),
        *(f"features {name}: SHA-256 {str(digest)[:DIGEST]}…" for name, digest in digests.items()),
    ]


def emotions(counts: Mapping[str, int]) -> str:
    """Clips per emotion, in brackets; nothing where they were not counted."""
    return f" ({', '.join(f'{name} {count}' for name, count in sorted(counts.items()))})" if counts else ""


def protocol(settings: Experiment) -> str:
    """What decides the numbers of one protocol."""
    tasks, training, test = settings.tasks, settings.training, settings.evaluation
    fixed = f" + {len(tasks.fixed)} fixed" if tasks.fixed else ""
    asked = (f"{test.tasks} divisions of each target per seed, {100 * test.split.test:.10g} % of it asked" if test.split else
             f"{tasks.ways}{fixed}-way {tasks.shots}-shot, {test.tasks} test tasks per target and seed")  # fmt: skip
    speech = "" if settings.data.images else f"speakers {tasks.speakers}, normalisation {settings.features.normalise}, "
    return (f"{asked}; seeds {', '.join(map(str, settings.seeds))}; {training.iterations} meta-iterations of "
            f"{training.meta_batch} tasks; {speech}features {settings.features.recipe}, network {settings.model.name}, "
            "where a method does not say otherwise.")  # fmt: skip


def origin(folder: Path, run: Any) -> list[str]:
    """Commit, versions, hardware and time of a run or a measurement, from its ``run.json``."""
    versions, hardware = section(run, "versions", folder), section(run, "hardware", folder)
    wall = run.get("wall_seconds")
    named = {"commit": run.get("commit"), "Python": run.get("python"), **versions}
    return [
        ", ".join(f"{name} {value}" for name, value in named.items() if value),
        ", ".join(f"{name} {value}" for name, value in hardware.items() if value),
        *([f"took {timedelta(seconds=round(wall))} (h:mm:ss)"] if isinstance(wall, int | float) and 0 <= wall < 1e9 else []),
    ]  # fmt: skip


def command(finished: Finished, run: Any, place: Path, known: list[str]) -> str:
    """The command that makes a run.

    Args:
        finished: The run.
        run: Its ``run.json``.
        place: Its folder, from the one that holds the results folder on, such as ``results/fmaml/5shot/real``.
        known: The experiment's protocols; those of a run are named where it has not all of them.
    """
    overrides = section(run, "overrides", finished.folder, list)
    parts = ["metaser", "run", f"experiments/{finished.first.experiment}"]
    if finished.first.variant:
        parts += ["--variant", finished.first.variant]
    if set(finished.settings) != set(known):
        parts += [part for name in finished.settings if name for part in ("--protocol", name)]
    if place.parts[:-3] != ("results",):
        parts += ["--results", Path(*place.parts[:-3]).as_posix()]
    parts += [part for setting in overrides for part in ("--set", str(setting))]
    return ("" if finished.kind == "real" else "METASER_DATA= ") + shlex.join(parts)


def section(tree: Any, name: str, folder: Path, what: type = dict) -> Any:
    """A part of a ``run.json``; empty where it is not there.

    Raises:
        UserError: if it is something else.
    """
    part = tree.get(name, what()) if isinstance(tree, dict) else None
    if not isinstance(part, what):
        raise UserError(f"{folder / 'run.json'}: is not what a run writes ({name} is no {what.__name__})")
    return part
