"""z-scores over an utterance or a speaker, computed on the cached array whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from metaser.features import storage
from metaser.features.extraction import FeatureSet
from metaser.runtime.errors import UserError, nearest

#: What `normalise` knows.
NORMALISATIONS = ("none", "utterance", "speaker", "language", "support")

#: Rows of some clips, their values ``(clips, coefficients, frames)`` as float64, and which of these count: valid and finite ones.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]

#: The emotion of clips in which nobody speaks.
SILENCE = "silence"


def normalise(features: FeatureSet, how: str) -> FeatureSet:
    """Features with each coefficient brought to mean 0 and variance 1 over valid frames; padding frames are 0.

    ``utterance`` takes the statistics from each utterance alone: inductive, but it takes the clip's level away.
    ``speaker`` takes them from all the clips of the same speaker of the same corpus that are in the table, without
    looking at their labels: with test clips among them it is *transductive*, and a result should say so. Clips whose
    speaker is not known count as one speaker per corpus and language. Silence, which nobody speaks, is measured by all the
    speech of the table: by itself it would look like speech of average level.

    ``language`` takes them from all the speech of the same corpus and language: transductive, too. ``support`` leaves the
    array as it is: every task's clips are then normalised by its own support set (`metaser.tasks.SpeechTasks`), which is
    inductive.

    A coefficient that does not vary becomes 0; a value that is not finite is left out of the statistics and becomes 0.

    Args:
        features: ``x`` is ``(utterances, coefficients, frames)``; it is left as it is.
        how: One of `NORMALISATIONS`.

    Raises:
        UserError: if ``how`` is not known.
    """
    if how not in NORMALISATIONS:
        raise UserError(f"no normalisation {how!r}; {nearest(how, NORMALISATIONS)}")
    if how in ("none", "support"):
        return features
    silent = (features.table["emotion"] == SILENCE).to_numpy() & (how != "utterance")
    rows = np.arange(len(silent))[:, None] if how == "utterance" else _groups(features, by_speaker=how == "speaker")
    groups = [(own, own) for own in rows]
    if silent.any() and not silent.all():
        groups.append((np.flatnonzero(silent), np.flatnonzero(~silent)))
    return replace(features, x=normalise_by(features.x.cpu(), features.lengths, groups))


def normalise_by(
    x: torch.Tensor, lengths: torch.Tensor, groups: Iterable[tuple[np.ndarray, np.ndarray]]
) -> torch.Tensor:
    """Clips brought to z-scores, some by some; a chunk of them is in memory at a time (`metaser.features.storage`).

    Args:
        x: ``(clips, coefficients, frames)``; it is left as it is.
        lengths: ``(clips,)``, valid frames.
        groups: Rows of clips, and the rows that lend them their mean and deviation; of two groups with a clip the later counts.
    """
    # NumPy rather than torch: the same bits whatever torch's number of threads, and no threads for such small sums.
    values, valid, normalised = x.numpy(), lengths.numpy(), storage.zeros(*x.shape)
    size, used, scores = storage.rows_of_a_chunk(x), storage.releasing(x, normalised), normalised.numpy()

    def chunks(rows: np.ndarray) -> Iterator[Chunk]:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            numbers = values[part].astype(np.float64)
            yield part, numbers, np.isfinite(numbers) & (np.arange(x.shape[2]) < valid[part, None])[:, None]
            used(len(part))

    for rows, lenders in groups:
        mean, deviation = _moments(partial(chunks, lenders))
        for part, numbers, counting in chunks(rows):
            scores[part] = np.where(np.isfinite(deviation), np.where(counting, numbers - mean, 0) / deviation, 0)
    return normalised


def _groups(features: FeatureSet, by_speaker: bool) -> Iterator[np.ndarray]:
    """The rows of each speaker, or of each corpus and language, one after another."""
    speaker = (
        features.table["speaker"].fillna("").astype(str) if by_speaker else features.table["emotion"].map(lambda _: "")
    )
    language = features.table["language"].where(speaker == "", "")  # matters for unknown speakers only
    groups = features.table.groupby([features.table["corpus"], speaker, language], sort=False, dropna=False)
    for rows in groups.indices.values():
        yield np.asarray(rows)


def _moments(chunks: Callable[[], Iterator[Chunk]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``(1, coefficients, 1)`` of what counts of some clips, which ``chunks`` goes through.

    The deviation is infinite where a coefficient does not vary. In float64: the variance of one far from 0 would drown in float32.
    """
    count, total, squares = np.zeros(1), np.zeros(1), np.zeros(1)
    for _, numbers, counting in chunks():
        count = count + counting.sum(axis=(0, 2), keepdims=True)
        total = total + np.where(counting, numbers, 0).sum(axis=(0, 2), keepdims=True)
    count = np.maximum(count, 1)
    mean = total / count
    for _, numbers, counting in chunks():
        squares = squares + np.square(np.where(counting, numbers - mean, 0)).sum(axis=(0, 2), keepdims=True)
    deviation = np.sqrt(squares / count)
    constant = deviation <= np.abs(mean) * np.finfo(np.float32).eps  # only rounding is left
    return mean, np.where(constant, np.inf, deviation)
