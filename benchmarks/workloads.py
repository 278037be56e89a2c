"""What is timed: networks on tasks of a certain shape, and algorithms. Data are Gaussian; speed does not depend on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from metaser.runtime.errors import UserError, nearest

#: The outer Adam's learning rate β.
OUTER_LR = 1e-3

#: Reg-MAML's λ/α.
LAMBDA_RATIO = 1.0

DOMAIN = "synthetic"


@dataclass(frozen=True)
class Workload:
    """A network and the tasks that it is trained on.

    Attributes:
        name: What results call it.
        model: The network's name in `metaser.models`.
        input_shape: ``(coefficients, frames)``.
        ways: N, the classes of the support set.
        shots: K, support clips per class.
        queries: Query clips per class, fixed classes included.
        meta_batch: Tasks per meta-iteration.
        inner_lr: α.
        classes: Classes that tasks draw their N from.
        clips: Clips per class.
        fixed: The F classes that are only in the query set.
    """

    name: str
    model: str
    input_shape: tuple[int, int]
    ways: int
    shots: int
    queries: int
    meta_batch: int
    inner_lr: float
    classes: int
    clips: int
    fixed: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """N+F."""
        return self.ways + len(self.fixed)

    @property
    def support(self) -> int:
        """Support clips per task."""
        return self.ways * self.shots

    @property
    def query(self) -> int:
        """Query clips per task."""
        return self.outputs * self.queries


@dataclass(frozen=True)
class Method:
    """An algorithm and its inner steps.

    Attributes:
        name: What results call it.
        algorithm: Its name in `metaser.algorithms`.
        steps: k, inner steps.
    """

    name: str
    algorithm: str
    steps: int = 1


@dataclass(frozen=True)
class Case:
    """A workload under a method: what one contender is told to prepare."""

    workload: Workload
    method: Method
    seed: int = 0


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("lstm", "metaser-lstm", (20, 120), 4, 5, 10, 8, 0.01, 4, 400),
        Workload("fmaml-conv", "fmaml-conv", (40, 40), 5, 5, 5, 16, 0.1, 5, 200, ("silence", "neutral")),
        Workload("omniglot-fc", "omniglot-fc", (28, 28), 5, 5, 5, 32, 0.5, 200, 20),
        Workload("omniglot-cnn", "omniglot-cnn", (28, 28), 5, 5, 5, 32, 0.5, 200, 20),
        Workload("mnist-cnn", "mnist-cnn", (28, 28), 4, 5, 5, 8, 0.01, 4, 400),
    )
}

#: Reptile with one step is joint training (Nichol et al. 2018): timed because the published times can only be read so.
METHODS = {
    method.name: method
    for method in (
        Method("fomaml", "fomaml"),
        Method("maml", "maml"),
        Method("reptile", "reptile", steps=5),
        Method("reptile-1", "reptile"),
        Method("regmaml", "regmaml"),
        Method("metasgd", "metasgd"),
        Method("anil", "anil"),
    )
}

#: Input sizes of ``--quick``; the other networks take no other than 28×28.
QUICK_SHAPES = {"lstm": (20, 12), "fmaml-conv": (16, 16)}


def quick(workload: Workload) -> Workload:
    """The workload so small that it runs in a blink; its times mean nothing."""
    return replace(workload, input_shape=QUICK_SHAPES.get(workload.name, workload.input_shape), shots=2, queries=2,
                   meta_batch=2, classes=workload.ways, clips=12)  # fmt: skip


def choose(names: list[str], registry: dict[str, Workload] | dict[str, Method], option: str) -> list[str]:
    """``names`` without repetitions, or all that there are when there are none.

    Raises:
        UserError: with the nearest right name.
    """
    for name in names:
        if name not in registry:
            raise UserError(f"{option}: unknown name {name!r}; {nearest(name, registry)}")
    return list(dict.fromkeys(names)) or list(registry)


def table(workload: Workload) -> pd.DataFrame:
    """An utterance table: ``clips`` rows per class, the fixed classes last; its index names the rows of `features`."""
    emotions = [f"class{number:03d}" for number in range(workload.classes)]
    names = np.repeat([*emotions, *workload.fixed], workload.clips)
    paths = [f"{DOMAIN}/{row}" for row in range(len(names))]
    return pd.DataFrame({"path": paths, "corpus": DOMAIN, "language": DOMAIN, "speaker": "", "gender": "",
                         "emotion": names, "text": "", "group": paths, "domain": DOMAIN})  # fmt: skip


def features(workload: Workload, seed: int) -> np.ndarray:
    """Features ``(clips, coefficients, frames)`` in float32, Gaussian around a mean of each class's own."""
    rng = np.random.default_rng(seed)
    classes = workload.classes + len(workload.fixed)
    centres = rng.standard_normal((classes, *workload.input_shape), dtype=np.float32)
    noise = rng.standard_normal((classes * workload.clips, *workload.input_shape), dtype=np.float32)
    return np.repeat(centres, workload.clips, axis=0) + noise
