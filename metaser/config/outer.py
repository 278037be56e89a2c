"""Settings of the outer loop and of the final test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metaser.config.base import MOST, Count, Name, Number, Rate, Section


class Training(Section):
    """The outer loop.

    Attributes:
        iterations: Meta-iterations; one "epoch" of the papers' timings is one of them.
        meta_batch: Tasks per meta-iteration.
        outer_lr: β, the learning rate of the outer Adam.
        clip_norm: Scales a mean meta-gradient that is longer than this (2-norm over all parameters) down to it.
        log_every: Meta-iterations per row of the training curve.
        monitor_every: Meta-iterations between two points of the test curve; 0 for none. The curve is shown, and
            chooses nothing.
        monitor_tasks: Test tasks per point of that curve.
        monitored: The algorithms that have one (and one over inner steps, `Evaluation.steps`); all when empty.
        divergence: What a loss that is no finite number is: a mistake that ends the run (``error``), or a result
            (``record``): the model's curve ends there, it has no test scores, and the run goes on with the next model.
    """

    iterations: Count
    meta_batch: Count = 4
    outer_lr: Rate = 1e-3
    clip_norm: Rate | None = None
    log_every: Count = 10
    monitor_every: Annotated[int, Field(ge=0, le=MOST)] = 0
    monitor_tasks: Count = 10
    monitored: tuple[Name, ...] = Field(default=(), strict=False)
    divergence: Literal["error", "record"] = "error"


class Split(Section):
    """The final test as a division of everything that a target has: a part to adapt on, and a part that is asked.

    Attributes:
        test: The share of the clips that is asked; of the speakers, where `Tasks.speakers` is ``disjoint``.
        fractions: Shares of the other part for the curve over them, on ``training.monitor_tasks`` divisions; it is shown, and
            chooses nothing.
    """

    test: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    fractions: tuple[Annotated[Number, Field(gt=0, le=1)], ...] = Field(default=(), strict=False)


class Evaluation(Section):
    """The final test.

    Attributes:
        tasks: Random tasks of the target.
        queries: Query clips per class, where the class has that many.
        min_queries: The fewest with which a class is still tested; below that the run is refused.
        fixed_queries: Query clips per fixed class; ``queries`` when not given.
        steps: Numbers of inner steps for the curve over them, on ``training.monitor_tasks`` tasks; it is shown, and chooses
            nothing.
        split: A test task is a division of all of the target's clips; ``tasks`` is then the number of divisions.
    """

    tasks: Count = 100
    queries: Count = 25
    min_queries: Count = 10
    fixed_queries: Count | None = None
    steps: tuple[Annotated[int, Field(ge=0, le=MOST)], ...] = Field(default=(), strict=False)
    split: Split | None = None
