"""The one loop that trains every algorithm: average the tasks' meta-gradients, step the outer optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from metaser import config
from metaser.algorithms import Learner
from metaser.algorithms.base import MetaGradient
from metaser.errors import UserError
from metaser.parallel import Workers
from metaser.tasks import SpeechTasks

#: Called with the meta-iteration and the groups' results since the last call.
Record = Callable[[int, Sequence[MetaGradient]], None]


def train(
    learner: Learner,
    tasks: SpeechTasks,
    settings: config.Training,
    workers: Workers,
    record: Record,
    monitor: Callable[[int], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> float:
    """Trains ``learner`` in place with Adam on the mean meta-gradient of each meta-batch.

    Args:
        learner: Its parameters are what is learned.
        tasks: The training stream; meta-iteration i takes its tasks (i, 0) … (i, meta_batch − 1).
        settings: Iterations, meta-batch and outer learning rate β.
        workers: The threads over which a meta-batch is split; the result does not depend on their number.
        record: Gets a row of the training curve every ``log_every`` iterations and at the end.
        monitor: Called at iteration 0, every ``monitor_every`` iterations and at the end; may look, not choose.
        tick: Called after every iteration, for a progress bar.

    Returns:
        Seconds spent in the meta-iterations themselves, sampling included, ``monitor`` and ``record`` not.

    Raises:
        UserError: if the loss is no longer a finite number.
    """
    optimiser = torch.optim.Adam(learner.parameters(), lr=settings.outer_lr)
    monitored = monitor if settings.monitor_every else None
    if monitored:
        monitored(0)
    seconds, window = 0.0, []
    for iteration in range(1, settings.iterations + 1):
        started = time.perf_counter()
        batch = meta_iteration(learner, tasks, iteration, settings.meta_batch, optimiser, workers, settings.clip_norm)
        seconds += time.perf_counter() - started
        window += batch
        last = iteration == settings.iterations
        if last or iteration % settings.log_every == 0:
            record(iteration, window)
            window = []
        if monitored and (last or iteration % settings.monitor_every == 0):
            monitored(iteration)
        if tick:
            tick(iteration)
    if not all(parameter.isfinite().all() for parameter in learner.parameters()):
        raise UserError("training diverged in its last iteration (weights are not finite); lower inner_lr or outer_lr")
    return seconds


def meta_iteration(
    learner: Learner,
    tasks: SpeechTasks,
    iteration: int,
    meta_batch: int,
    optimiser: torch.optim.Optimizer,
    workers: Workers,
    clip_norm: float | None = None,
) -> list[MetaGradient]:
    """One outer step along the mean of the tasks' meta-gradients, added up in the order of the tasks.

    Returns:
        What the groups of tasks gave, in order.

    Raises:
        UserError: if the loss is not a finite number; the parameters are then as they were.
    """
    size = learner.engine.group_size(meta_batch)

    def work(first: int) -> MetaGradient:
        group = [tasks.task(iteration, index) for index in range(first, min(first + size, meta_batch))]
        return learner.meta_gradient(learner.engine.group(group))

    batch = workers.map(work, range(0, meta_batch, size))
    loss = sum(sum(result.losses) for result in batch) / meta_batch
    if not math.isfinite(loss):
        raise UserError(f"training diverged at iteration {iteration} (query loss {loss}); lower inner_lr or outer_lr")
    apply(learner, batch, optimiser, clip_norm)
    return batch


def apply(
    learner: Learner,
    batch: Sequence[MetaGradient],
    optimiser: torch.optim.Optimizer,
    clip_norm: float | None = None,
) -> None:
    """One outer step along the mean of the tasks' meta-gradients, added up in the order of the groups."""
    parameters, count = learner.parameters(), sum(len(result.losses) for result in batch)
    total = [gradient.clone() for gradient in batch[0].gradients]
    for result in batch[1:]:
        torch._foreach_add_(total, list(result.gradients))
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient.div_(count)
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()
