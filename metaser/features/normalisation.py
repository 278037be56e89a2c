"""z-scores over an utterance or a speaker, computed on the cached array whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from metaser.errors import UserError, nearest
from metaser.features.extraction import FeatureSet

#: What `normalise` knows.
NORMALISATIONS = ("none", "utterance", "speaker", "language", "support")

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
    """Clips brought to z-scores, some by some.

    Args:
        x: ``(clips, coefficients, frames)``; it is left as it is.
        lengths: ``(clips,)``, valid frames.
        groups: Rows of clips, and the rows that lend them their mean and deviation; of two groups with a clip the later counts.
    """
    # NumPy rather than torch: the same bits whatever torch's number of threads, and no threads for such small sums.
    values, valid = x.numpy(), np.arange(x.shape[2]) < lengths.numpy()[:, None]
    normalised = np.zeros_like(values)
    for rows, lenders in groups:
        mean, deviation = _moments(values[lenders], valid[lenders])
        normalised[rows] = np.where(np.isfinite(deviation), _centred(values[rows], valid[rows], mean) / deviation, 0)
    return torch.from_numpy(normalised)


def _groups(features: FeatureSet, by_speaker: bool) -> Iterator[np.ndarray]:
    """The rows of each speaker, or of each corpus and language, one after another."""
    speaker = (
        features.table["speaker"].fillna("").astype(str) if by_speaker else features.table["emotion"].map(lambda _: "")
    )
    language = features.table["language"].where(speaker == "", "")  # matters for unknown speakers only
    groups = features.table.groupby([features.table["corpus"], speaker, language], sort=False, dropna=False)
    for rows in groups.indices.values():
        yield np.asarray(rows)


def _moments(x: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``(1, coefficients, 1)`` of what is valid of ``(utterances, coefficients, frames)``.

    The deviation is infinite where a coefficient does not vary. In float64: the variance of one far from 0 would drown in float32.
    """
    used = valid[:, None, :] & np.isfinite(x)
    count = np.maximum(used.sum(axis=(0, 2), keepdims=True), 1)
    # NumPy 1 would let a float64 zero stay in float32.
    mean = np.where(used, x.astype(np.float64), 0.0).sum(axis=(0, 2), keepdims=True) / count
    deviation = np.sqrt(np.square(_centred(x, valid, mean)).sum(axis=(0, 2), keepdims=True) / count)
    constant = deviation <= np.abs(mean) * np.finfo(np.float32).eps  # only rounding is left
    return mean, np.where(constant, np.inf, deviation)


def _centred(x: np.ndarray, valid: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Values less the mean, 0 where they are not valid or not finite."""
    return np.where(valid[:, None, :] & np.isfinite(x), x.astype(np.float64) - mean, 0)
