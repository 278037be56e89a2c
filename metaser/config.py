"""The experiment as typed, validated data, read from YAML.

A ``config.yaml`` holds the settings of `Experiment` and, beside them, small overlays: ``protocols`` (how to test),
``variants`` (such as 5shot) and ``synthetic`` (what to shorten when there is no real corpus). An overlay is merged key
by key over the rest. Unknown keys are refused with the nearest right name.
"""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from metaser.errors import UserError, first_line, nearest

OVERLAYS = ("protocols", "variants", "synthetic")

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

#: The deepest key that ``key=value`` may name; no setting is half as deep.
DEEPEST = 20


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
    """

    corpora: tuple[str | CustomCorpus, ...] = Field(min_length=1, strict=False)
    at_least: Count | None = None
    neutral: tuple[str, ...] = Field(default=(), strict=False)

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
    normalise: Literal["none", "utterance", "speaker"] = "none"


class Tasks(Section):
    """The shape of every task; see `metaser.tasks`.

    Attributes:
        domain: What a task stays within; the languages of the built-in synthetic corpus count as corpora, too.
        ways: N, the classes of the support set.
        fixed: The F classes that are only ever in the query set; always the last outputs, in this order.
        shots: K, support clips per class.
        queries: Query clips per class in training.
        fixed_queries: Query clips per fixed class in training; ``queries`` when not given.
        order: Whether a task's classes take the outputs in random order or always in the order of `Data.emotions`.
        speakers: Whether support and query may share speakers.
    """

    domain: Literal["language", "corpus"] = "language"
    ways: Annotated[int, Field(ge=2, le=MOST)]
    fixed: tuple[str, ...] = Field(default=(), strict=False)
    shots: Count
    queries: Count = 5
    fixed_queries: Count | None = None
    order: Literal["permuted", "fixed"] = "permuted"
    speakers: Literal["mixed", "disjoint"] = "mixed"


class Model(Section):
    """A network of `metaser.models`, by name."""

    name: str


class Algorithm(Section):
    """A meta-learning algorithm of `metaser.algorithms`, by name, and its inner loop.

    Attributes:
        inner_lr: α, the learning rate of the inner loop.
        outer_lr: β, the learning rate of the outer Adam; `Training.outer_lr` when not given.
        steps: Inner steps in training.
        test_steps: Inner steps when a task is tested; ``steps`` when not given.
        first_order: For the algorithms that leave it open (F-MAML): drop the second-order terms.
        lambda_: Reg-MAML's λ, in units of α; ``lambda_ratio`` is λ/α. At most one of the two.
    """

    name: str
    inner_lr: Rate
    outer_lr: Rate | None = None
    steps: Count
    test_steps: Count | None = None
    first_order: bool = True
    lambda_: Number | None = None
    lambda_ratio: Number | None = None

    @model_validator(mode="after")
    def _one_lambda(self) -> Algorithm:
        if self.lambda_ is not None and self.lambda_ratio is not None:
            raise ValueError("give lambda_ or lambda_ratio, not both")
        return self


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
    divergence: Literal["error", "record"] = "error"


class Evaluation(Section):
    """The final test.

    Attributes:
        tasks: Random tasks of the target.
        queries: Query clips per class, where the class has that many.
        min_queries: The fewest with which a class is still tested; below that the run is refused.
        fixed_queries: Query clips per fixed class; ``queries`` when not given.
    """

    tasks: Count = 100
    queries: Count = 25
    min_queries: Count = 10
    fixed_queries: Count | None = None


class Experiment(Section):
    """Everything that decides a run's numbers; ``data_root`` stands in for METASER_DATA."""

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
    training: Training
    engine: Engine = Engine()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        distinct("seeds", self.seeds)
        distinct("tasks.fixed and data.emotions", [*self.tasks.fixed, *self.data.emotions])
        return self


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


class Loader(yaml.SafeLoader):
    """YAML as settings need it: no alias, which can stand for more than memory holds, and no key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise ComposerError(None, None, f"the alias *{event.anchor} is not read; write it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is there twice, of which YAML would take the last."""
        mapping = super().construct_mapping(node, deep)
        seen = set()
        for key_node, _ in node.value if len(mapping) < len(node.value) else ():
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"the key {shown(key)} is there twice", key_node.start_mark)
            seen.add(key)
        return mapping


class Study:
    """A ``config.yaml``: its base settings, and the overlays by name.

    Args:
        path: The file.

    Raises:
        UserError: if the file cannot be read, is not YAML, or an overlay has an unknown key or a bad value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        tree = read_yaml(path)
        self.overlays: dict[str, dict[str, Any]] = {kind: tree.pop(kind, None) or {} for kind in OVERLAYS}
        self.base = tree
        for kind, overlay in self.overlays.items():
            if not isinstance(overlay, dict):
                raise UserError(f"{path}: {kind}: must be a mapping")
            self.overlays[kind] = {str(name): value for name, value in overlay.items()}
        self.protocols = list(self.overlays["protocols"]) or [""]
        self.variants = list(self.overlays["variants"])

    def experiment(
        self, *, variant: str = "", protocol: str = "", synthetic: bool = False, overrides: Sequence[str] = ()
    ) -> Experiment:
        """The settings with the wanted overlays: base, then variant, protocol, ``synthetic``, and ``key=value`` last.

        Raises:
            UserError: naming the file, the key and what would be right.
        """
        tree: dict[str, Any] = dict(self.base)
        if variant:
            tree = merge(tree, self._overlay("variants", variant))
        if protocol:
            tree = merge(tree, self._fitting(self._overlay("protocols", protocol), tree))
        if synthetic:
            tree = merge(tree, self.overlays["synthetic"])
        for text in overrides:
            tree = merge(tree, parse_override(text))
        tree = merge(tree, {"variant": variant, "protocol": protocol})
        try:
            return Experiment.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"{self.path}: {explain(error)}") from None

    def _fitting(self, overlay: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
        """A protocol's overlay without what it says of algorithms that only other variants have."""
        changed = overlay.get("algorithms")
        if not isinstance(changed, dict):
            return overlay
        here, elsewhere = algorithms_of(tree), set().union(*map(algorithms_of, self.overlays["variants"].values()))
        return {**overlay, "algorithms": {n: c for n, c in changed.items() if n in here or n not in elsewhere}}

    def _overlay(self, kind: str, name: str) -> dict[str, Any]:
        known = self.overlays[kind]
        if name not in known:
            raise UserError(f"{self.path}: unknown {kind[:-1]} {name!r}; {nearest(name, known)}")
        if not isinstance(known[name], dict):
            raise UserError(f"{self.path}: {kind}.{name}: must be a mapping")
        return known[name]


def algorithms_of(tree: object) -> set[str]:
    """The algorithms' labels in settings that were not checked yet."""
    found = tree.get("algorithms") if isinstance(tree, dict) else None
    return set(found) if isinstance(found, dict) else set()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping.

    Raises:
        UserError: naming the file, and the line where it is not YAML.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}: is not valid YAML{where} ({getattr(error, 'problem', None) or 'unreadable'})"
        ) from None
    except Exception as error:  # whatever its constructors raise, such as at a date that no calendar has
        raise UserError(f"{path}: has a value that cannot be read ({first_line(error)})") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a mapping of settings, such as 'seeds: [0]'")
    return tree


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` over ``base``, key by key; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in overlay.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """``training.iterations=100`` as a nested mapping; the value is read as YAML.

    Raises:
        UserError: if there is no ``=`` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text[:80]}: give key=value, such as training.iterations=100")
    try:
        tree: Any = yaml.load(value, Loader)
    except Exception as error:  # as in `read_yaml`
        reason = getattr(error, "problem", None) or "unreadable"
        raise UserError(f"--set {text[:80]}: the value is not valid YAML ({reason})") from None
    parts = key.strip().split(".")
    if len(parts) > DEEPEST:
        raise UserError(f"--set {text[:80]}: no key is that deep; give key=value, such as training.iterations=100")
    for part in reversed(parts):
        tree = {part: tree}
    return tree


def explain(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line: the key, what is wrong, what would be right."""
    # Of a union's members (a corpus's name or a mapping) the one that came furthest is what the user meant.
    start = error.errors()[0]["loc"][:-1]
    first = max((e for e in error.errors() if e["loc"][: len(start)] == start), key=lambda e: len(e["loc"]))
    # A union reports the member it tried ('str', 'CustomCorpus') as part of the place; users know only their keys.
    place = [str(part) for part in first["loc"] if part not in ("str", "CustomCorpus")]
    where = ".".join(place)[:200] or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}; {nearest(place[-1], known_keys(place[:-1]))}"
    if first["type"] == "missing":
        return f"missing key {where}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}, not {shown(first['input'])}" if first["type"] != "value_error" else f"{where}: {reason}"


def shown(value: object) -> str:
    """A value as an error message shows it: in one line, and not all of it where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return short.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def known_keys(place: Sequence[str]) -> list[str]:
    """The keys that `Experiment` knows at a place such as ``["training"]``."""
    model: Any = Experiment
    for part in place:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:  # inside a mapping or a list: the annotation below already named the model
            continue
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner += [deeper for entry in inner for deeper in getattr(entry, "__args__", ())]
        model = next((entry for entry in inner if isinstance(entry, type) and issubclass(entry, Section)), model)
    return list(getattr(model, "model_fields", {}))
