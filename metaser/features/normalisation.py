"""z-scores over an utterance or a speaker, computed on the cached array whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    # NumPy rather than torch: the same bits whatever torch's number of threads, and no threads for such small sums.
    x = features.x.cpu().numpy()
    normalised = np.zeros_like(x)
    valid = np.arange(x.shape[2]) < features.lengths.numpy()[:, None]
    silent = (features.table["emotion"] == SILENCE).to_numpy() & (how != "utterance")
    for rows in np.arange(len(x))[:, None] if how == "utterance" else _groups(features, by_speaker=how == "speaker"):
        normalised[rows] = _z_scores(x[rows], valid[rows])
    if silent.any() and not silent.all():
        normalised[silent] = _z_scores(x, valid, by=~silent)[silent]
    return replace(features, x=torch.from_numpy(normalised))


def normalise_by(
    x: torch.Tensor, lengths: torch.Tensor, groups: Sequence[tuple[np.ndarray, np.ndarray]]
) -> torch.Tensor:
    """Clips brought to z-scores, some by some: what ``speaker`` and ``language`` are to a corpus, where there is none.

    Args:
        x: ``(clips, coefficients, frames)``; it is left as it is.
        lengths: ``(clips,)``, valid frames.
        groups: Rows of clips, and the rows that lend them their mean and deviation.
    """
    values, valid = x.numpy(), np.arange(x.shape[2]) < lengths.numpy()[:, None]
    normalised = np.zeros_like(values)
    for rows, lenders in groups:
        both = np.concatenate([rows, lenders])
        by = np.arange(len(both)) >= len(rows)
        normalised[rows] = _z_scores(values[both], valid[both], by)[: len(rows)]
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


def _z_scores(x: np.ndarray, valid: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    """z-scores of ``(utterances, coefficients, frames)`` where ``(utterances, frames)`` is valid, 0 elsewhere.

    In float64: the variance of a coefficient far from 0 would drown in float32.

    Args:
        x: The values.
        valid: Which of them count.
        by: ``(utterances,)``: whose statistics to use; all when not given.
    """
    used = valid[:, None, :] & np.isfinite(x)
    values = np.where(used, x.astype(np.float64), 0.0)  # NumPy 1 would let a float64 zero stay in float32
    chosen = slice(None) if by is None else by
    count = np.maximum(used[chosen].sum(axis=(0, 2), keepdims=True), 1)
    mean = values[chosen].sum(axis=(0, 2), keepdims=True) / count
    centred = np.where(used, values - mean, 0)
    deviation = np.sqrt(np.square(centred[chosen]).sum(axis=(0, 2), keepdims=True) / count)
    constant = deviation <= np.abs(mean) * np.finfo(np.float32).eps  # only rounding is left
    return np.where(constant, 0, centred / np.where(constant, 1, deviation))
