"""What all tests share: a cache of their own, made-up utterances, tiny tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings

from metaser.tasks import Task

REPOSITORY = Path(__file__).parent.parent
EMOTIONS = ("fear", "disgust", "happiness", "anger", "sadness")

# A slow or busy machine is no reason to fail: examples have no deadline.
settings.register_profile("metaser", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("metaser")

# As in a run (`metaser.parallel.Workers`): the tests are shared out over the cores, and operators that were, too, would wait.
torch.set_num_threads(1)


#: The files that take longest; two processes that share the files out end together if these do not come last.
LONG = (
    "test_commands.py", "test_checkpoint.py", "test_hostile_own.py", "test_sweep.py", "test_ranks.py", "test_modifications.py",
    "test_hostile.py", "test_scaling.py", "test_metaser.py", "test_pictures.py", "test_notebooks.py", "test_bench.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first; within a file the order stays."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, so that the synthetic corpus is made once and the user's cache is left alone.

    Test processes that share the work share it, too: whoever writes into it writes whole files or nothing.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(exist_ok=True)
    patch = pytest.MonkeyPatch()
    patch.setenv("METASER_CACHE", str(folder))
    patch.setenv("METASER_PROCESSES", "1")  # the tests themselves are shared out over the cores
    yield folder
    patch.undo()


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
