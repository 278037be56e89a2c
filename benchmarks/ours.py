"""The contender ``metaser``: our own training loop. All that the benchmark knows of it is here.

PyTorch is imported inside the functions, so that the allocator can be tuned before it is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.workloads import DOMAIN, LAMBDA_RATIO, OUTER_LR, Case, Workload, features, table
from metaser.runtime import allocator

if TYPE_CHECKING:
    from metaser.runtime.parallel import Workers
    from metaser.tasks import SpeechTasks


def tune() -> None:
    """Tunes the memory allocator as every training run of metaser does."""
    allocator.tune()


def tasks(workload: Workload, seed: int) -> SpeechTasks:
    """The training stream of a workload."""
    import torch

    from metaser.algorithms.fmaml import FixedClasses
    from metaser.tasks import EpisodeSampler, SpeechTasks, TaskShape

    clips, queries = table(workload), workload.queries
    emotions = list(dict.fromkeys(clips["emotion"]))[: workload.classes]
    shape = TaskShape(workload.ways, workload.shots, queries, queries, workload.fixed, queries)
    sampler = EpisodeSampler(clips, [DOMAIN], emotions, shape, "train")
    return SpeechTasks(torch.from_numpy(features(workload, seed)), list(clips["emotion"]), sampler, seed,
                       task_transforms=[FixedClasses(workload.fixed)])  # fmt: skip


def prepare(cell: Case, workers: Workers | None = None) -> Callable[[], None]:
    """One meta-iteration of a cell, as a function; on a thread per core unless ``workers`` says otherwise."""
    import torch

    from metaser import algorithms, models, training
    from metaser.runtime.parallel import Workers
    from metaser.training import methods

    threads = workers or Workers()
    workload, method = cell.workload, cell.method
    own = {"lambda_ratio": LAMBDA_RATIO} if method.algorithm == "regmaml" else {}
    settings = methods.configured(method.algorithm, inner_lr=workload.inner_lr, steps=method.steps, **own)
    network = models.build(workload.model, workload.input_shape, workload.outputs, cell.seed)
    learner = algorithms.build(settings, network)
    optimiser = torch.optim.Adam(learner.parameters(), lr=OUTER_LR)
    stream, numbers = tasks(workload, cell.seed), itertools.count(1)

    def iteration() -> None:
        training.meta_iteration(learner, stream, next(numbers), workload.meta_batch, optimiser, threads)

    return iteration
