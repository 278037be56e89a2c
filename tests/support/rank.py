"""One rank of tests/test_ranks.py: trains every algorithm for a few iterations and writes what it saw and learned."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from metaser import algorithms, config, models
from metaser.algorithms.fmaml import FixedClasses
from metaser.runtime.parallel import Workers
from metaser.runtime.ranks import Ranks
from metaser.tasks import EpisodeSampler, SpeechTasks, TaskShape
from metaser.training import methods, train
from support.tasks import EMOTIONS, features_of, utterances

ALGORITHMS = ("fomaml", "maml", "reptile", "regmaml", "fmaml")
TASKS = 6


def main(out: Path) -> None:
    """Rank 0 writes ``out``: per algorithm the losses of all tasks in order, the first meta-gradient, the last weights."""
    ranks, found = Ranks.join(torch.device("cpu")), {}
    for name in ALGORITHMS:
        table, ratio = utterances(), {"lambda_ratio": 0.5} if name == "regmaml" else {}
        shape = TaskShape(5, 3, 3, 3, ("neutral", "silence") if name == "fmaml" else (), 3)
        sampler = EpisodeSampler(table, ["aa", "bb"], EMOTIONS, shape, "train")
        tasks = SpeechTasks(features_of(table, shape=(8, 8)).double(), list(table["emotion"]), sampler, seed=3,
                            task_transforms=[FixedClasses(shape.fixed)])  # fmt: skip
        settings = methods.configured(name, inner_lr=0.05, steps=2, **ratio)
        learner = algorithms.build(settings, models.build("fmaml-conv", (8, 8), 5 + len(shape.fixed), 0).double())
        losses: list[float] = []
        gradients: list[torch.Tensor] = []

        def record(_: int, own: list[float], __: list[float], losses: list[float] = losses) -> None:
            losses.extend(own)

        def tick(_: int, gradients: list[torch.Tensor] = gradients, learner: object = learner) -> None:
            gradients.append(torch.cat([p.grad.reshape(-1) for p in learner.parameters()]))  # type: ignore[attr-defined]

        with Workers(1, ranks) as pool:
            train(learner, tasks, config.Training(iterations=3, meta_batch=TASKS, log_every=1), pool, record, tick=tick)
        found |= {f"{name}.losses": torch.tensor(losses, dtype=torch.float64), f"{name}.gradient": gradients[0],
                  f"{name}.weights": torch.cat([p.detach().reshape(-1) for p in learner.parameters()])}  # fmt: skip
    if ranks.first:
        save_file(found, out)
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
