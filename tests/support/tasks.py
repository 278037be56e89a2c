"""Made-up utterances, their features, and tiny tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from metaser.algorithms.fmaml import FixedClasses
from metaser.tasks import EpisodeSampler, SpeechTasks, Task, TaskShape

EMOTIONS = ("fear", "disgust", "happiness", "anger", "sadness")


def utterances(
    clips: int = 12,
    speakers: int = 4,
    domains: tuple[str, ...] = ("aa", "bb", "cc"),
    classes: tuple[str, ...] = (*EMOTIONS, "neutral"),
    silence: int = 40,
) -> pd.DataFrame:
    """A table of ``clips`` utterances per domain and class, spread over ``speakers``, and shared silence."""
    rows = [
        (f"/{domain}/{emotion}/{n}.wav", domain, domain, f"s{n % speakers}", "", emotion, "", f"{domain}/{emotion}/{n}", domain)
        for domain in domains
        for emotion in classes
        for n in range(clips)
    ] + [
        (f"/silence/{n}.wav", "silence", "", f"session{n % 6}", "", "silence", "", f"silence/{n}", "*")
        for n in range(silence)
    ]  # fmt: skip
    columns = ["path", "corpus", "language", "speaker", "gender", "emotion", "text", "group", "domain"]
    return pd.DataFrame(rows, columns=columns)


def toy_task(
    ways: int = 3,
    shots: int = 2,
    queries: int = 3,
    fixed: int = 0,
    shape: tuple[int, ...] = (4, 5),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Task:
    """A task of Gaussian features whose classes have different means."""
    generator = torch.Generator().manual_seed(seed)

    def clips(labels: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(labels), *shape, generator=generator, dtype=torch.float64)
        return (noise + labels.reshape(-1, *[1] * len(shape))).to(dtype)

    support_y = torch.arange(ways).repeat_interleave(shots)
    query_y = torch.arange(ways + fixed).repeat_interleave(queries)
    classes = tuple(f"class{n}" for n in range(ways)) + tuple(f"fixed{n}" for n in range(fixed))
    support_x, query_x = clips(support_y), clips(query_y)
    rows = torch.arange(len(support_y) + len(query_y)).split([len(support_y), len(query_y)])
    return Task(support_x, support_y, query_x, query_y, classes, fixed, "aa", *rows)


def features_of(
    table: pd.DataFrame, seed: int = 0, shape: tuple[int, int] = (4, 5), noise: float = 0.7
) -> torch.Tensor:
    """Features ``(utterances, *shape)`` in which a class can be told from another, with noise."""
    rng = np.random.default_rng(seed)
    codes = pd.factorize(table["emotion"])[0]
    centres = rng.normal(size=(codes.max() + 1, *shape))
    return torch.from_numpy((centres[codes] + noise * rng.normal(size=(len(table), *shape))).astype(np.float32))


def shape_of(**changes: object) -> TaskShape:
    values = {
        "ways": 5,
        "shots": 2,
        "queries": 3,
        "min_queries": 3,
        "fixed": ("neutral", "silence"),
        "fixed_queries": 4,
    }
    return TaskShape(**{**values, **changes})  # type: ignore[arg-type]


def tasks_of(
    table: pd.DataFrame, shape: TaskShape, seed: int = 0, part: str = "train", in_support: bool = False, **more: object
) -> SpeechTasks:
    sampler = EpisodeSampler(table, ["aa", "bb"], EMOTIONS, shape, part)
    own = [FixedClasses(shape.fixed, in_support), *more.pop("task_transforms", [])]  # type: ignore[misc]
    return SpeechTasks(features_of(table), list(table["emotion"]), sampler, seed, task_transforms=own, **more)  # type: ignore[arg-type]
