"""Settings of the learners: networks, algorithms, and how the inner loop is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from metaser.config.base import MOST, Count, Number, Rate, Section
from metaser.config.data import Features

#: The most epochs of training on clips: a model file may come from anybody, and asks for them.
EPOCHS = 10_000


class Model(Section):
    """A network of `metaser.models`, by name."""

    name: str


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
    """What every method can be told; each has a subclass beside its code (`metaser.algorithms.base.Learner.Settings`) with its own.

    All methods of a run are tested on the same clips, whatever each makes of them.

    Attributes:
        name: Of the method, or ``path/to/file.py:Class`` or ``module:Class`` of a user's own.
        outer_lr: β, the learning rate of the outer Adam; `Training.outer_lr` when not given.
        iterations: `Training.iterations`, where its own differ; with 0 it is tested untrained.
        features: Its own recipe and normalisation.
        model: Its own network.
        order: `Tasks.order`, where its own differs.
        fixed_support: The fixed classes' ``Tasks.fixed_shots`` clips are in its support sets, as any class's are.
        task_classes: The sources' classes that its training tasks are of, where it is pre-trained on the others; when empty,
            both are of all.
        ensemble: So many networks, trained side by side from different initial weights; their probabilities are averaged.
    """

    name: str
    outer_lr: Rate | None = None
    iterations: Annotated[int, Field(ge=0, le=MOST)] | None = None
    features: Features | None = None
    model: Model | None = None
    order: Literal["permuted", "fixed", "own"] | None = None
    fixed_support: bool = False
    task_classes: tuple[str, ...] = Field(default=(), strict=False)
    ensemble: Annotated[int, Field(ge=1, le=100)] = 1

    def fit(self, when: Literal["pretraining", "tuning"]) -> Fit | None:
        """How its network is trained on clips then, if the method does that and is told to."""
        found: Fit | None = getattr(self, when, None)
        return found


class Pretrained(Algorithm):
    """A method whose network may be trained on clips first.

    Attributes:
        pretraining: How, on the sources' clips, not on tasks, before the outer loop; where they have more classes than it has
            outputs, with a last layer of its own, which is then dropped.
    """

    pretraining: Fit | None = None


class Finetuned(Pretrained):
    """A method whose network may be trained on a task's clips.

    Attributes:
        tuning: When a task is tested, a copy is trained so on its support set, instead of adapting in inner steps.
    """

    tuning: Fit | None = None


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
