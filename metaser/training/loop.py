"""The one loop that trains every algorithm: average the tasks' meta-gradients, step the outer optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from metaser import config
from metaser.algorithms import Learner
from metaser.algorithms.base import MetaGradient
from metaser.runtime.errors import DivergedError
from metaser.runtime.parallel import Workers
from metaser.runtime.ranks import Ranks
from metaser.tasks import SpeechTasks
from metaser.tasks.dataset import MetaBatch

#: Called with the meta-iteration, and the tasks' losses and accuracies since the last call.
Record = Callable[[int, Sequence[float], Sequence[float]], None]


@dataclass
class Position:
    """Where training stands: with weights, optimiser and the stream of tasks, all that decides how it goes on.

    Attributes:
        iteration: The last meta-iteration that is done.
        seconds: Spent in meta-iterations so far.
        losses: The tasks' since the last row of the training curve.
        accuracies: The same tasks'.
    """

    iteration: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


class Keeper(Protocol):
    """Keeps training's state outside the process; `metaser.training.checkpoint.Checkpoints` does, on disk."""

    def restore(self, learner: Learner, optimiser: torch.optim.Optimizer) -> Position:
        """Brings learner and optimiser to where they were, if they were anywhere."""

    def keep(self, learner: Learner, optimiser: torch.optim.Optimizer, position: Position) -> None:
        """Called after every iteration, with all that belongs to it done."""


def train(
    learner: Learner,
    tasks: SpeechTasks,
    settings: config.Training,
    workers: Workers,
    record: Record,
    monitor: Callable[[int], None] | None = None,
    tick: Callable[[int], None] | None = None,
    keeper: Keeper | None = None,
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
        keeper: Says where to go on from, and is shown every iteration's state; rank 0's alone is asked.

    Returns:
        Seconds spent in the meta-iterations themselves, sampling included, ``monitor`` and ``record`` not.

    Raises:
        DivergedError: if the loss is no longer a finite number.
    """
    optimiser = torch.optim.Adam(learner.parameters(), lr=settings.outer_lr)
    monitored = monitor if settings.monitor_every else None
    ranks = workers.ranks
    position = ranks.tell(keeper.restore(learner, optimiser) if keeper and ranks.first else Position())
    ranks.align(list(learner.parameters()), optimiser)
    if monitored and not position.iteration:
        monitored(0)
    for iteration in range(position.iteration + 1, settings.iterations + 1):
        started = time.perf_counter()
        losses, accuracies = meta_iteration(
            learner, tasks, iteration, settings.meta_batch, optimiser, workers, settings.clip_norm
        )
        position.seconds += time.perf_counter() - started
        position.iteration = iteration
        position.losses += losses
        position.accuracies += accuracies
        last = iteration == settings.iterations
        if last or iteration % settings.log_every == 0:
            record(iteration, position.losses, position.accuracies)
            position.losses, position.accuracies = [], []
        if monitored and (last or iteration % settings.monitor_every == 0):
            monitored(iteration)
        if keeper and ranks.first:
            keeper.keep(learner, optimiser, position)
        if tick:
            tick(iteration)
    if not all(parameter.isfinite().all() for parameter in learner.parameters()):
        raise DivergedError("training diverged in its last iteration (weights are not finite); lower inner_lr or outer_lr",
                            settings.iterations)  # fmt: skip
    return position.seconds


def meta_iteration(
    learner: Learner,
    tasks: SpeechTasks,
    iteration: int,
    meta_batch: int,
    optimiser: torch.optim.Optimizer,
    workers: Workers,
    clip_norm: float | None = None,
) -> tuple[list[float], list[float]]:
    """One outer step along the mean of the tasks' meta-gradients, added up in the order of the tasks.

    Returns:
        The tasks' losses and accuracies, in order, those of other ranks included.

    Raises:
        DivergedError: if the loss is not a finite number; the parameters are then as they were.
    """
    size = learner.engine.group_size(meta_batch)

    firsts = workers.ranks.own(range(0, meta_batch, size))
    # Drawn before the threads start: it is all Python, and would stall them one by one.
    drawn = [tasks.batch(iteration, range(first, min(first + size, meta_batch))) for first in firsts]

    def work(group: MetaBatch) -> MetaGradient:
        return learner.meta_gradient(learner.engine.group([group[place] for place in range(len(group))]))

    batch = workers.map(work, drawn)
    # Every task has its own place, so that the sum over ranks, each of them zero elsewhere, is the list of all.
    seen = torch.zeros(2, meta_batch, dtype=torch.float64, device=next(iter(learner.parameters())).device)
    for first, result in zip(firsts, batch, strict=True):
        seen[:, first : first + len(result.losses)] = seen.new_tensor([result.losses, result.accuracies])
    losses, accuracies = workers.ranks.add_up(seen).tolist()
    if not math.isfinite(sum(losses)):
        raise DivergedError(f"training diverged at iteration {iteration} (query loss {sum(losses) / meta_batch}); "
                            f"lower inner_lr or outer_lr", iteration)  # fmt: skip
    apply(learner, batch, meta_batch, optimiser, workers.ranks, clip_norm)
    return losses, accuracies


def apply(
    learner: Learner,
    batch: Sequence[MetaGradient],
    count: int,
    optimiser: torch.optim.Optimizer,
    ranks: Ranks,
    clip_norm: float | None = None,
) -> None:
    """One outer step along the mean over ``count`` tasks of the meta-gradients, added up in the order of the groups.

    All parameters' sums travel as one flat tensor; a rank without tasks sends zeros.
    """
    parameters = list(learner.parameters())
    if batch:
        total = [gradient.clone() for gradient in batch[0].gradients]
        for result in batch[1:]:
            torch._foreach_add_(total, list(result.gradients))
    else:
        total = [torch.zeros_like(parameter) for parameter in parameters]
    if ranks.count > 1:
        flat = ranks.add_up(torch.cat([gradient.reshape(-1) for gradient in total]))
        for gradient, piece in zip(total, flat.split([g.numel() for g in total]), strict=True):
            gradient.copy_(piece.view(gradient.shape))
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient.div_(count)
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()
