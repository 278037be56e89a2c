"""What a run is about: its clips or images, and their features by their settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from metaser import images, models
from metaser.config import Experiment, Features
from metaser.corpora.selection import Selection, select
from metaser.features import FeatureSet, extract, normalise, recipe
from metaser.images import ImageData
from metaser.runtime.errors import UserError, nearest
from metaser.runtime.progress import progress
from metaser.training import methods

#: The recipe of images, which are taken as they are.
PIXELS = "pixels"


def selected(settings: Experiment, root: Path | None, fewest: int) -> tuple[Selection, ImageData | None]:
    """The clips, or the images as clips and as what they show.

    Args:
        settings: The run's.
        root: The data root.
        fewest: Domains that must be there.

    Raises:
        UserError: if they are not.
    """
    if settings.data.images:
        with progress("reading images") as update:
            return images.select(settings.data, root, update)
    with progress("making the built-in corpus") as update:
        return select(settings.data, settings.tasks, root, update, fewest), None


def features(settings: Features, speech: Selection, pictures: ImageData | None, device: torch.device) -> FeatureSet:
    """Of all clips, normalised as the settings say; on the device that is to compute.

    Raises:
        UserError: if a clip cannot be read.
    """
    if pictures:
        lengths = torch.full((len(pictures.x),), pictures.x.shape[2])
        return FeatureSet(pictures.x.to(device), lengths, pictures.table, PIXELS, pictures.digest)
    chosen = recipe(settings.recipe, backend=settings.backend)
    with progress(f"extracting features ({chosen.name})") as update:
        found = normalise(extract(speech.table, chosen, update), settings.normalise)
    return replace(found, x=found.x.to(device))


def check_names(settings: Experiment) -> None:
    """Refuses an unknown recipe or network before any work is done.

    Raises:
        UserError: with the nearest right name.
    """
    for label, algorithm in settings.algorithms.items():
        own = settings.of(label)
        if not settings.data.images:
            recipe(own.features.recipe, backend=own.features.backend)
        elif own.features != Features(recipe=PIXELS):
            raise UserError(f"features: images have none but {{recipe: {PIXELS}}}")
        if own.model.name not in models.MODELS:
            key = "model.name" if algorithm.model is None else f"algorithms.{label}.model.name"
            raise UserError(f"{key}: unknown name {own.model.name!r}; {nearest(own.model.name, list(models.MODELS))}")
        tuning = algorithm.fit("tuning")
        if own.tasks.order == "own" and not (tuning and tuning.head == "fresh"):
            raise UserError(f"algorithms.{label}: with order: own the outputs are the sources' classes; to be asked about others "
                            "it needs tuning: {head: fresh}")  # fmt: skip
        if methods.kind(algorithm.name).keeps_fixed and not settings.tasks.fixed:
            raise UserError(
                f"algorithms.{label}: {algorithm.name} needs fixed classes; set tasks.fixed, such as [silence]"
            )


def check_domains(settings: Experiment, speech: Selection) -> None:
    """Refuses a target or a source that is not there, and is no corpus that could be.

    Raises:
        UserError: with the nearest that is.
    """
    key, absent = ("data.source_sets", speech.absent) if settings.data.source_sets else ("data.sources", ())
    for place, names in (("data.targets", settings.data.targets), *((key, names) for names in settings.data.sets)):
        for name in names:
            if name not in speech.domains and name not in absent:
                raise UserError(f"{place}: no domain {name!r} here; {nearest(name, speech.domains)}")
