"""The experiment as typed, validated data; `metaser.study` reads it from YAML. Unknown keys are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from metaser.errors import nearest, shown

#: The largest count; a number of thousands of digits is not even written as text.
MOST = 10**9
Count = Annotated[int, Field(ge=1, le=MOST)]


def number(value: object) -> object:
    """YAML 1.1 reads "1e-3" as a string: converted, where it is a number; everything else must have its type."""
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


Number = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: What may be a part of a path or a key of a table.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
#: The same, or nothing.
Part = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")]


class Section(BaseModel):
    """Strict, immutable settings: no unknown key, no silent conversion of a string to a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CustomCorpus(Section):
    """A corpus of the user's own (`metaser.corpora.folder`): a tree ``speaker?/emotion/*.wav`` or a CSV file."""

    name: Name
    path: str
    language: Name


class Collection(Section):
    """Corpora that make one study together.

    Attributes:
        corpora: Registered names, or custom corpora.
        at_least: How many of them must be there; all of them when not given.
        neutral: For corpora without neutral clips: where the fixed class may borrow them, the first that is there.
        own_neutral: If not, all borrow, and the corpora's own neutral clips are left out.
    """

    corpora: tuple[str | CustomCorpus, ...] = Field(min_length=1, strict=False)
    at_least: Count | None = None
    neutral: tuple[str, ...] = Field(default=(), strict=False)
    own_neutral: bool = True

    @model_validator(mode="after")
    def _possible(self) -> Collection:
        names = [entry if isinstance(entry, str) else entry.name for entry in self.corpora]
        distinct("corpora", names)
        if self.at_least and self.at_least > len(names):
            raise ValueError(f"at_least: {self.at_least} of {len(names)} corpora is impossible")
        return self


class Data(Section):
    """Which speech to use: the first collection that the data root holds, or the one that ``use`` names.

    Attributes:
        use: ``auto``, or a collection.
        collections: By name, in order of preference.
        emotions: The classes, in the order that fixed label order gives them.
        targets: Which domains to leave out and test on, one after another; every one when empty.
        sources: The domains to train on, for all targets alike, so that one model serves them all; when empty a model is
            trained for every target, on all the others.
    """

    use: str = "auto"
    collections: dict[str, Collection]
    emotions: tuple[str, ...] = Field(min_length=2, strict=False)
    targets: tuple[str, ...] = Field(default=(), strict=False)
    sources: tuple[str, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _distinct(self) -> Data:
        distinct("emotions", self.emotions)
        distinct("targets", self.targets)
        distinct("sources", self.sources)
        both = [name for name in self.sources if name in self.targets]
        if both:
            raise ValueError(f"sources: {shown(both[0])} is a target; train on others")
        if self.sources and not self.targets:
            raise ValueError("sources: name the targets, too")
        if self.use not in ("auto", *self.collections):
            raise ValueError(
                f"use: unknown collection {shown(self.use)}; {nearest(self.use, ['auto', *self.collections])}"
            )
        return self


class Features(Section):
    """The recipe of `metaser.features` and the normalisation applied to what it gives."""

    recipe: str
    backend: Literal["torchaudio", "python_speech_features"] = "torchaudio"
    normalise: Literal["none", "utterance", "speaker", "language", "support"] = "none"


class Tasks(Section):
    """The shape of every task; see `metaser.tasks`.

    Attributes:
        domain: What a task stays within; the languages of the built-in synthetic corpus count as corpora, too.
        ways: N, the classes of the support set.
        fixed: The F classes that are only ever in the query set; always the last outputs, in this order.
        shots: K, support clips per class.
        fixed_shots: Support clips per fixed class, for the algorithms that ask for them (`Algorithm.fixed_support`).
        queries: Query clips per class in training.
        fixed_queries: Query clips per fixed class in training; ``queries`` when not given.
        order: Whether a task's classes take the outputs in random order or always in the order of `Data.emotions`.
        speakers: Whether support and query may share speakers.
    """

    domain: Literal["language", "corpus"] = "language"
    ways: Annotated[int, Field(ge=2, le=MOST)]
    fixed: tuple[str, ...] = Field(default=(), strict=False)
    shots: Count
    fixed_shots: Annotated[int, Field(ge=0, le=MOST)] = 0
    queries: Count = 5
    fixed_queries: Count | None = None
    order: Literal["permuted", "fixed"] = "permuted"
    speakers: Literal["mixed", "disjoint"] = "mixed"


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

    def grid(self) -> list[GaussianOptions]:
        """All combinations."""
        return [GaussianOptions(*each) for each in product(*(getattr(self, name) for name in GaussianOptions._fields))]


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
        features: Its own recipe and normalisation.
        model: Its own network.
        iterations: `Training.iterations`, where its own differ; with 0 it is tested untrained.
        gaussian: Options of the Gaussian classifier.
        ensemble: So many networks, trained side by side from different initial weights; their probabilities are averaged.
    """

    name: str
    inner_lr: Rate
    outer_lr: Rate | None = None
    steps: Count
    test_steps: Annotated[int, Field(ge=0, le=MOST)] | None = None
    first_order: bool = True
    lambda_: Number | None = None
    lambda_ratio: Number | None = None
    layers: Literal["all", "head"] = "all"
    statistics: Literal["query", "support"] = "query"
    mask_fixed: bool = False
    calibrate: bool = False
    fixed_support: bool = False
    order: Literal["permuted", "fixed"] | None = None
    features: Features | None = None
    model: Model | None = None
    iterations: Annotated[int, Field(ge=0, le=MOST)] | None = None
    gaussian: Gaussian | None = None
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
        layout: A task at a time, tasks stacked by vmap, or fully connected networks without forming adapted weights.
        precision: ``bfloat16`` computes the network's products in that format: faster where the processor has it, with
            a relative error of about 1e-2 in the meta-gradient (1.4e-2 for MetaSER's LSTM).
        curvature: ``finite-difference`` replaces second derivatives by central differences of gradients, for MAML and
            networks without kinks only; the relative error of the meta-gradient is about 1e-9 in float64 and
            1e-6 in float32 for MetaSER's LSTM at inner learning rates up to 0.01.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    layout: Literal["auto", "task", "stacked", "low-rank"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    curvature: Literal["exact", "finite-difference"] = "exact"


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


class Evaluation(Section):
    """The final test.

    Attributes:
        tasks: Random tasks of the target.
        queries: Query clips per class, where the class has that many.
        min_queries: The fewest with which a class is still tested; below that the run is refused.
        fixed_queries: Query clips per fixed class; ``queries`` when not given.
        steps: Numbers of inner steps for the curve over them, on ``training.monitor_tasks`` tasks; it is shown, and chooses
            nothing.
    """

    tasks: Count = 100
    queries: Count = 25
    min_queries: Count = 10
    fixed_queries: Count | None = None
    steps: tuple[Annotated[int, Field(ge=0, le=MOST)], ...] = Field(default=(), strict=False)


class Experiment(Section):
    """Everything that decides a run's numbers; ``data_root`` stands in for METASER_DATA.

    ``compare`` names the algorithms that take part, of those that there are; all of them when empty.
    """

    experiment: Name
    variant: Part = ""
    protocol: Part = ""
    data_root: str | None = None
    seeds: tuple[Seed, ...] = Field(min_length=1, strict=False)
    data: Data
    features: Features
    tasks: Tasks
    model: Model
    algorithms: dict[Name, Algorithm] = Field(min_length=1)
    compare: tuple[Name, ...] = Field(default=(), strict=False)
    training: Training
    engine: Engine = Engine()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        distinct("seeds", self.seeds)
        distinct("compare", self.compare)
        distinct("tasks.fixed and data.emotions", [*self.tasks.fixed, *self.data.emotions])
        for label, algorithm in self.algorithms.items():
            if algorithm.fixed_support and not (self.tasks.fixed and self.tasks.fixed_shots):
                raise ValueError(
                    f"algorithms.{label}.fixed_support: needs tasks.fixed and tasks.fixed_shots, such as 5"
                )
        return self

    def of(self, label: str) -> Experiment:
        """The settings as one of the algorithms has them: its own features, network, order of labels and outer loop."""
        own = self.algorithms[label]
        training = {"outer_lr": own.outer_lr, "iterations": own.iterations}
        changes = {
            "features": own.features or self.features,
            "model": own.model or self.model,
            "tasks": self.tasks.model_copy(update={"order": own.order or self.tasks.order}),
            "training": self.training.model_copy(update={k: v for k, v in training.items() if v is not None}),
        }
        return self.model_copy(update=changes)


def distinct(key: str, values: Sequence[object]) -> None:
    """Refuses a list in which something is there twice.

    Raises:
        ValueError: naming it.
    """
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {shown(value)} is there twice; each one once")
        seen.add(value)
