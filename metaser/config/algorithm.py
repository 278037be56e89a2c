"""Settings of the learners: networks, algorithms, and how the inner loop is computed."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from metaser.config.base import MOST, Count, Number, Rate, Section
from metaser.config.data import Features

#: The most inner steps, epochs of training on clips, and combinations of a Gaussian classifier's options: a model file may
#: come from anybody, and asks for them.
STEPS, EPOCHS, COMBINATIONS = 10_000, 10_000, 1000


class Model(Section):
    """A network of `metaser.models`, by name."""

    name: str


class GaussianOptions(NamedTuple):
    """One value for each option of `Gaussian`."""

    own: float
    shrinkage: float
    prior: float
    temperature: float
    unlabelled: float
    fixed: float


def listed(value: object) -> object:
    """One value stands for a list of it."""
    return [value] if isinstance(value, int | float | str) else value


Many = Field(min_length=1, max_length=20, strict=False)
Shares = Annotated[tuple[Annotated[Number, Field(ge=0, le=1)], ...], BeforeValidator(listed), Many]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(listed), Many]
Offsets = Annotated[tuple[Annotated[Number, Field(ge=-100, le=100)], ...], BeforeValidator(listed), Many]


class Gaussian(Section):
    """Options of `metaser.baselines.gaussian`; of all combinations of several values the best on the sources are averaged.

    Attributes:
        own: a, the support set's share of the covariance.
        shrinkage: ρ, how far the covariance is drawn to its diagonal.
        prior: k, the support clips that the sources' mean of a class is worth.
        temperature: What log-likelihoods are multiplied by: many correlated features make them far too sure.
        unlabelled: What an unlabelled query clip is worth, in support clips; 0 for an inductive classifier.
        fixed: What is added to the fixed classes' logits.
    """

    own: Shares = (0.3,)
    shrinkage: Shares = (0.5,)
    prior: Rates = (10.0,)
    temperature: Rates = (0.3,)
    unlabelled: Shares = (0.3,)
    fixed: Offsets = (0.0,)

    @model_validator(mode="after")
    def _countable(self) -> Gaussian:
        if (count := prod(len(getattr(self, name)) for name in GaussianOptions._fields)) > COMBINATIONS:
            raise ValueError(f"{count} combinations of options are more than {COMBINATIONS}")
        return self

    def grid(self) -> list[GaussianOptions]:
        """All combinations."""
        return [GaussianOptions(*each) for each in product(*(getattr(self, name) for name in GaussianOptions._fields))]


class Fit(Section):
    """Mini-batch training on labelled clips (`metaser.algorithms.fitting`): Adam, a cyclic learning rate, early stopping.

    Attributes:
        epochs: At most.
        batch: Clips per step.
        base_lr: Where the learning rate is least.
        max_lr: Where it is largest; it goes up and down linearly between the two (Smith 2017, arXiv 1506.01186).
        cycle: Epochs from one least learning rate to the next.
        validation: The share of the clips that are held out to stop by; with 0 all are trained on, for all of the epochs. So
            are they where every class has one clip.
        patience: Epochs without a smaller loss on these after which it ends; the weights are those of the smallest.
        layers: What is trained: ``all`` layers, or the ``dense`` ones, the rest frozen.
        noise: Standard deviation of Gaussian noise that is added to what is trained on, in the features' own units.
        shift: Frames by which a clip is shifted at random, at most, either way.
        mask_bands: Coefficients in a row that are set to 0, at most; where and how many is random (SpecAugment: Park et al.,
            Interspeech 2019, arXiv 1904.08779).
        mask_frames: The same of frames.
        head: What the last layer starts as: as it was ``trained``; drawn anew (``fresh``); or the ``prototypes`` of the clips, so
            that the first answers are a Prototypical network's (Triantafillou et al., ICLR 2020, arXiv 1903.03096).
    """

    epochs: Annotated[int, Field(ge=1, le=EPOCHS)] = 100
    batch: Annotated[int, Field(ge=2, le=MOST)] = 64
    base_lr: Rate = 2e-5
    max_lr: Rate = 1e-4
    cycle: Count = 10
    validation: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    patience: Count = 20
    layers: Literal["all", "dense"] = "all"
    noise: Annotated[Number, Field(ge=0, le=1e6)] = 0.0
    shift: Annotated[int, Field(ge=0, le=MOST)] = 0
    mask_bands: Annotated[int, Field(ge=0, le=MOST)] = 0
    mask_frames: Annotated[int, Field(ge=0, le=MOST)] = 0
    head: Literal["trained", "fresh", "prototypes"] = "trained"

    @property
    def augments(self) -> bool:
        """Whether what is trained on is changed."""
        return bool(self.noise or self.shift or self.mask_bands or self.mask_frames)

    @model_validator(mode="after")
    def _rising(self) -> Fit:
        if self.base_lr > self.max_lr:
            raise ValueError(f"base_lr: {self.base_lr:g} is above max_lr, {self.max_lr:g}")
        return self


class Algorithm(Section):
    """An algorithm of `metaser.algorithms` or `metaser.baselines`, by name, its inner loop, and what it does its own way.

    All algorithms of a run are tested on the same clips, whatever each makes of them.

    Attributes:
        inner_lr: α, the learning rate of the inner loop.
        outer_lr: β, the learning rate of the outer Adam; `Training.outer_lr` when not given.
        steps: Inner steps in training.
        test_steps: Inner steps when a task is tested; ``steps`` when not given, and with 0 it is asked as it was trained.
        first_order: For the algorithms that leave it open (F-MAML): drop the second-order terms.
        lambda_: Reg-MAML's λ, in units of α; ``lambda_ratio`` is λ/α. At most one of the two.
        layers: What adapts when a task is tested, for the algorithms that leave it open (supervised learning).
        statistics: Whose batch statistics a query set is normalised by: its own, which is transductive, or the support set's.
        mask_fixed: F-MAML: the support loss is over the outputs of the support set's classes alone.
        calibrate: F-MAML: what is added to the fixed classes' logits is chosen on training tasks, after training.
        fixed_support: The fixed classes' ``Tasks.fixed_shots`` clips are in its support sets, as any class's are.
        order: `Tasks.order`, where its own differs.
        task_classes: The sources' classes that its training tasks are of, where it is pre-trained on the others; when empty,
            both are of all.
        features: Its own recipe and normalisation.
        model: Its own network.
        iterations: `Training.iterations`, where its own differ; with 0 it is tested untrained.
        gaussian: Options of the Gaussian classifier.
        pretraining: How the network is trained on the sources' clips, not on tasks, before the outer loop; where they have more
            classes than it has outputs, with a last layer of its own, which is then dropped.
        tuning: When a task is tested, a copy is trained so on its support set, instead of adapting in inner steps.
        ensemble: So many networks, trained side by side from different initial weights; their probabilities are averaged.
    """

    name: str
    inner_lr: Rate = 0.01
    outer_lr: Rate | None = None
    steps: Annotated[int, Field(ge=1, le=STEPS)] = 1
    test_steps: Annotated[int, Field(ge=0, le=STEPS)] | None = None
    first_order: bool = True
    lambda_: Number | None = None
    lambda_ratio: Number | None = None
    layers: Literal["all", "head"] = "all"
    statistics: Literal["query", "support"] = "query"
    mask_fixed: bool = False
    calibrate: bool = False
    fixed_support: bool = False
    order: Literal["permuted", "fixed", "own"] | None = None
    task_classes: tuple[str, ...] = Field(default=(), strict=False)
    features: Features | None = None
    model: Model | None = None
    iterations: Annotated[int, Field(ge=0, le=MOST)] | None = None
    gaussian: Gaussian | None = None
    pretraining: Fit | None = None
    tuning: Fit | None = None
    ensemble: Annotated[int, Field(ge=1, le=100)] = 1

    @model_validator(mode="after")
    def _one_lambda(self) -> Algorithm:
        if self.lambda_ is not None and self.lambda_ratio is not None:
            raise ValueError("give lambda_ or lambda_ratio, not both")
        return self

    @property
    def testing(self) -> int:
        """Inner steps when a task is tested."""
        return self.steps if self.test_steps is None else self.test_steps


class Engine(Section):
    """How the inner loop is computed; see `metaser.engine`. The defaults are exact.

    Attributes:
        device: ``cpu``, ``cuda``, or the latter where there is one.
        layout: learn2learn on the network itself; a task at a time; tasks stacked by vmap; or fully connected networks without
            forming adapted weights.
        precision: ``bfloat16`` computes the network's products in that format: faster where the processor has it, with
            a relative error of about 1e-2 in the meta-gradient (1.4e-2 for MetaSER's LSTM).
        curvature: ``finite-difference`` replaces second derivatives by central differences of gradients, for MAML and
            networks without kinks only; the relative error of the meta-gradient is about 1e-9 in float64 and
            1e-6 in float32 for MetaSER's LSTM at inner learning rates up to 0.01.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    layout: Literal["auto", "learn2learn", "task", "stacked", "low-rank"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    curvature: Literal["exact", "finite-difference"] = "exact"
