"""F-MAML, "Fixed-MAML" (Naman, Sinha, Mancini 2021, arXiv 2101.01356).

MAML on N+F-way tasks. Of a task's N classes, the emotions, the support set has K clips each, and which of the first N outputs
they take changes from task to task. The F fixed classes (silence, neutral) are the same in every task, so there is nothing to
adapt to: they are in every query set and in no support set, and always have the last F outputs. The inner loop therefore never
sees them; the outer loop alone teaches them. `FixedClasses` makes such tasks, and is all that is F-MAML's own: its inner loop
and its meta-gradient are MAML's. The paper describes second-order MAML, its authors' code computes the
first-order gradient (`torch.autograd.grad` without ``create_graph``): `first_order` chooses.

Two variants explain the method. The support loss as published pushes the fixed outputs down at every inner step, as no clip
of theirs is there; with ``mask_fixed`` it is over the first N outputs alone. With ``calibrate`` one number is added to
the fixed outputs, the one with the least query loss on tasks of the sources: after more inner steps than in training, or
masked ones, they are no longer level with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from pydantic import model_validator
from torch.nn import functional as F

from metaser.algorithms.base import MetaGradient
from metaser.algorithms.inner import InnerSettings
from metaser.algorithms.maml import MAML
from metaser.engine import Group
from metaser.tasks import Episode, Task

#: Tasks of the sources that the calibration is chosen on, and how far from 0 it may go.
CALIBRATION_TASKS, FARTHEST = 40, 30.0


@dataclass(frozen=True)
class FixedClasses:
    """Where fixed classes are computed: one of learn2learn's ``task_transforms``, which makes a drawn episode an N+F-way one.

    The sampler draws clips of the fixed classes as it does of any other, for support and query sets.

    Attributes:
        names: The F fixed classes.
        in_support: Their support clips stay, as any class's: plain N+F-way, for methods that F-MAML is compared with.
    """

    names: tuple[str, ...]
    in_support: bool = False

    def __call__(self, episode: Episode) -> Episode:
        """The same query clips; fixed classes on outputs N … N+F−1, and not in the support set."""
        adapted_to = tuple(name for name in episode.classes if name not in self.names)
        episode = replace(episode.on_outputs((*adapted_to, *self.names)), fixed=len(self.names))
        if self.in_support:
            return episode
        kept = episode.support_y < len(adapted_to)
        return replace(episode, support_index=episode.support_index[kept], support_y=episode.support_y[kept])


class FMAMLSettings(InnerSettings):
    """Of F-MAML.

    Attributes:
        first_order: The authors' code's gradient; if not, their text's, through the inner loop.
        mask_fixed: The support loss is over the outputs of the support set's classes alone.
        calibrate: What is added to the fixed classes' logits is chosen on training tasks, after training.
    """

    first_order: bool = True
    mask_fixed: bool = False
    calibrate: bool = False

    @model_validator(mode="after")
    def _without_fixed_support(self) -> FMAMLSettings:
        if self.fixed_support:
            raise ValueError("fixed_support: F-MAML keeps the fixed classes out of the support set; leave it out")
        return self


class FMAML(MAML):
    """MAML or FOMAML held to N+F-way tasks; see `Learner` for the arguments.

    Attributes:
        offset: What is added to the fixed classes' logits; 0 unless calibrated.
    """

    offset = 0.0
    Settings = FMAMLSettings
    settings: FMAMLSettings
    keeps_fixed = True

    @classmethod
    def takes_first_order(cls, settings: InnerSettings) -> bool:
        """As the settings say."""
        assert isinstance(settings, FMAMLSettings)
        return settings.first_order

    def state(self) -> dict[str, torch.Tensor]:
        """The network's weights, and the offset."""
        return super().state() | {"offset": torch.tensor(self.offset, dtype=torch.float64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Learner.restore`."""
        super().restore(state)
        self.offset = float(state["offset"])

    def inner_loss(self, group: Group) -> torch.Tensor:
        """The support loss; over the classes that are in the support set alone, if so set."""
        if self.settings.mask_fixed:
            group = replace(group, support=replace(group.support, outputs=group.tasks[0].ways))
        return super().inner_loss(group)

    def meta_gradient(self, group: Group) -> MetaGradient:
        """As MAML or FOMAML, on tasks with fixed classes.

        Raises:
            ValueError: if a task is not N+F-way.
        """
        for task in group.tasks:
            check(task)
        return super().meta_gradient(group)

    def finish(self, task: Callable[[int], Task]) -> None:
        """Chooses the offset, if so set: the least mean query loss over tasks of the sources."""
        if not self.settings.calibrate:
            return
        from scipy.optimize import minimize_scalar

        self.offset = 0.0
        tasks = [task(number) for number in range(CALIBRATION_TASKS)]
        asked = [(self.predict(one), one) for one in tasks]

        def loss(offset: float) -> float:
            losses = [F.cross_entropy(self.lifted(logits, one, float(offset)), one.query_y) for logits, one in asked]
            return float(torch.stack(losses).mean())

        self.offset = float(minimize_scalar(loss, bounds=(-FARTHEST, FARTHEST), method="bounded").x)
        self.chosen = {"offset": self.offset, "loss": loss(self.offset)}

    def lifted(self, logits: torch.Tensor, task: Task, offset: float) -> torch.Tensor:
        """Logits with so much added to those of the fixed classes."""
        return torch.cat([logits[:, : task.ways], logits[:, task.ways :] + offset], dim=1)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits ``(queries, N+F)`` after adaptation.

        Raises:
            ValueError: if the task is not N+F-way.
        """
        check(task)
        logits = super().predict(task)
        return self.lifted(logits, task, self.offset) if self.offset else logits


def check(task: Task) -> None:
    """Refuses a task without fixed classes, or with one of them in its support set."""
    if task.fixed < 1:
        raise ValueError("F-MAML needs tasks with at least one fixed class; set tasks.fixed")
    if int(task.support_y.max()) >= task.ways:
        raise ValueError("a fixed class is in the support set; fixed classes belong in the query set only")
