"""Where a run's numbers are from, in words: its data, its protocols, its code and machine, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from metaser.config import Experiment
from metaser.corpora.base import SHARED
from metaser.reporting.facts import Origin
from metaser.reporting.finished import Finished

#: What a run's data are; never shown without that word.
KINDS = {"real": "real data", "synthetic": "SYNTHETIC data", "bundled": "STAND-IN data, not the paper's"}

#: Digits of a digest that tell any two data sets apart.
DIGEST = 12


def kind(finished: Finished) -> str:
    """What the numbers are of."""
    return KINDS.get(finished.kind, "SYNTHETIC data")


def data(finished: Finished) -> list[str]:
    """Which corpora, how many clips of each, what was not there, and the digests of what the networks were given."""
    facts = finished.facts.data
    counts = [f"{finished.titles.get(domain, 'shared by all' if domain == SHARED else domain)}: {count}"
              f"{emotions(facts.emotions.get(domain, {}))}" for domain, count in facts.clips.items()]  # fmt: skip
    return [
        f"{kind(finished)}, collection {facts.collection}",
        *([f"{'images' if finished.first.data.images else 'clips'}: {'; '.join(counts)}"] if counts else []),
        *([f"not there: {', '.join(facts.absent)}"] if facts.absent else []),
        *(f"features {name}: SHA-256 {digest[:DIGEST]}…" for name, digest in facts.features_sha256.items()),
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


def origin(facts: Origin) -> list[str]:
    """Commit, versions, hardware and time of a run or a measurement."""
    named, took = {"commit": facts.commit, "Python": facts.python, **facts.versions}, facts.wall_seconds
    return [
        *(", ".join(f"{name} {value}" for name, value in known.items() if value) for known in (named, facts.hardware)),
        *([] if took is None else [f"took {timedelta(seconds=round(took))} (h:mm:ss)"]),
    ]


def command(finished: Finished, place: Path, known: list[str]) -> str:
    """The command that makes a run.

    Args:
        finished: The run.
        place: Its folder, from the one that holds the results folder on, such as ``results/fmaml/5shot/real``.
        known: The experiment's protocols; those of a run are named where it has not all of them.
    """
    parts = ["metaser", "run", f"experiments/{finished.first.experiment}"]
    if finished.first.variant:
        parts += ["--variant", finished.first.variant]
    if set(finished.settings) != set(known):
        parts += [part for name in finished.settings if name for part in ("--protocol", name)]
    if place.parts[:-3] != ("results",):
        parts += ["--results", Path(*place.parts[:-3]).as_posix()]
    parts += [part for setting in finished.facts.overrides for part in ("--set", setting)]
    return ("" if finished.kind == "real" else "METASER_DATA= ") + shlex.join(parts)
