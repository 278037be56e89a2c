"""What algorithms with an inner loop share: they are learn2learn's, on a module that some layout provides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field
from torch import nn

from metaser import config, engine
from metaser.algorithms.base import Learner, MetaGradient, report
from metaser.config import Rate
from metaser.engine import Engine, Flat, Group, Outcome, TaskEngine, Weights
from metaser.runtime.errors import UserError
from metaser.tasks import Task

#: The most inner steps: a model file may come from anybody, and asks for them.
STEPS = 10_000


class InnerSettings(config.Finetuned):
    """What every algorithm with an inner loop can be told.

    Attributes:
        inner_lr: α, the learning rate of the inner loop.
        steps: Inner steps in training.
        test_steps: Inner steps when a task is tested; ``steps`` when not given, and with 0 it is asked as it was trained.
        statistics: Whose batch statistics a query set is normalised by: its own, which is transductive, or the support set's.
    """

    inner_lr: Rate = 0.01
    steps: Annotated[int, Field(ge=1, le=STEPS)] = 1
    test_steps: Annotated[int, Field(ge=0, le=STEPS)] | None = None
    statistics: Literal["query", "support"] = "query"

    @property
    def testing(self) -> int:
        """Inner steps when a task is tested."""
        return self.steps if self.test_steps is None else self.test_steps


class InnerLoop(Learner):
    """A learner that adapts by learn2learn's ``clone()`` and ``adapt()``; the base class beside this one is learn2learn's.

    An algorithm is its `meta_gradient`, written in these words:

    - ``learner = self.begin(group)``: learn2learn's ``clone()``, for the tasks of a group;
    - ``learner.inner_loss(group)``, ``learner.adapt(loss)``: one inner step;
    - ``learner.query(group)``, ``self.gradient(outcome, group)``: the query loss, and its gradient by θ.

    See `Learner` for the arguments.
    """

    stepwise = True
    Settings = InnerSettings
    #: Whether the inner loop's derivative is taken as the identity.
    first_order = False
    #: Whether second derivatives pass through the network's body; if not, its layers need not provide any.
    through_body = True

    settings: InnerSettings
    engine: Engine
    module: nn.Module
    lr: float
    _modules: dict[str, nn.Module | None]

    def __init__(self, model: nn.Module, settings: InnerSettings, options: config.Engine | None = None) -> None:
        laid = engine.build(model, options or config.Engine(), low_rank=self.one_rate)
        if settings.statistics == "support" and type(laid) is not TaskEngine:
            raise UserError("statistics: support goes one task at a time; use engine.layout: task")
        first = self.takes_first_order(settings)
        super(Learner, self).__init__(laid.module, lr=settings.inner_lr, first_order=first)  # type: ignore[call-arg]
        self.engine, self.settings = laid, settings

    @classmethod
    def takes_first_order(cls, settings: InnerSettings) -> bool:
        """Whether the inner loop is of first order under these settings."""
        return cls.first_order

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The network whose parameters are θ."""
        return self.engine.model

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """θ, as learn2learn has it."""
        theta: Iterator[nn.Parameter] = super(Learner, self).parameters(recurse)  # type: ignore[misc]
        return theta

    def adapts(self, name: str) -> bool:
        """Whether the inner loop changes the parameter of that name."""
        return True

    def clone(self, *arguments: bool | None, **options: bool | None) -> Self:
        """learn2learn's ``clone()``, which takes the arguments; of this class, and adapting what `adapts` names."""
        source = self
        if not all(self.adapts(name) for name, _ in self.module.named_parameters()):
            source = self.around(self.engine.part(self.module, self.adapts))
        fresh = super(InnerLoop, source).clone(*arguments, **options)  # type: ignore[misc]
        other = self.around(fresh.module)
        other.__dict__.update({name: value for name, value in fresh.__dict__.items() if not name.startswith("_")})
        other._modules.update(fresh._modules)
        if "lrs" in fresh.__dict__:
            other._modules.pop("lrs", None)
        other.engine.twice(other.module, not other.first_order and self.through_body)
        return other

    def around(self, module: nn.Module) -> Self:
        """The same learner around another module."""
        other = type(self).__new__(type(self))
        other.__dict__.update(
            self.__dict__, _modules={**self._modules, "module": module}
        )  # as copy.copy, in a tenth of the time
        return other

    def at(self, weights: Weights) -> Self:
        """The same learner at other weights."""
        assert isinstance(self.module, Flat)
        return self.around(self.module.at(weights))

    if TYPE_CHECKING:  # learn2learn's

        def adapt(  # noqa: D102
            self, loss: torch.Tensor, first_order: bool | None = None, allow_unused: bool | None = None,
            allow_nograd: bool | None = None,
        ) -> None: ...  # fmt: skip

    def begin(self, group: Group, first_order: bool | None = None) -> Self:
        """A clone for the tasks of a group, each of which it is going to adapt to by itself."""
        source = self.around(self.engine.begin(self.module, group))
        if first_order is not None:
            source.first_order = first_order
        return source.clone()

    def support(self, group: Group) -> Outcome:
        """What it says about the support sets."""
        return self.engine.outcome(self(group.support.x), group.support)  # type: ignore[operator]

    def inner_loss(self, group: Group) -> torch.Tensor:
        """The support loss, summed over the tasks: what an inner step descends."""
        return self.support(group).loss

    def query(self, group: Group) -> Outcome:
        """What it says about the query sets."""
        self.engine.twice(self.module, False)
        return self.engine.outcome(self(group.query.x), group.query)  # type: ignore[operator]

    def gradient(self, outcome: Outcome, group: Group) -> MetaGradient:
        """The gradient by θ of what a clone said about the query sets, summed over the tasks."""
        return report(torch.autograd.grad(outcome.loss, list(self.parameters())), outcome, group.query)

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits after adaptation; nothing is differentiated through it, so first order suffices."""
        group = self.engine.group([task])
        learner = self.begin(group, first_order=True)
        for _ in range(self.settings.testing):
            learner.adapt(learner.inner_loss(group))
        with torch.no_grad():
            if self.settings.statistics == "support":
                assert isinstance(self.engine, TaskEngine), "checked when it was built"
                return self.engine.conditioned(learner.module, group)
            return learner.query(group).logits.flatten(0, -2)
