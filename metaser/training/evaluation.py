"""The one loop that tests a learner, and the one place where a mean gets its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from metaser.algorithms import Learner
from metaser.algorithms.base import cross_entropy
from metaser.runtime.parallel import Workers
from metaser.tasks import SpeechTasks, Task


@dataclass(frozen=True)
class Scores:
    """What a test gave.

    Attributes:
        tasks: One row per task, one column per metric: ``loss`` (nats), ``accuracy`` over all N+F classes,
            ``macro_f1``, ``weighted_f1`` (by the true classes' clips) and ``uar`` over all N+F classes. Where all tasks have
            the same classes, also ``accuracy_emotions`` over the query clips of the N emotions only (a fixed class predicted
            for one of them is an error), and ``recall_<class>``. Shares lie between 0 and 1.
        confusion: Clips by (true class, predicted class), summed over tasks.
    """

    tasks: pd.DataFrame
    confusion: pd.DataFrame


def evaluate(
    learner: Learner, tasks: SpeechTasks, count: int, workers: Workers, iteration: int = 0, by_class: bool = True
) -> Scores:
    """Adapts to each of ``count`` tasks and scores its query set.

    Args:
        learner: Left as it was.
        tasks: Where the tasks come from: those of ``iteration``, places 0 … count−1.
        count: How many.
        workers: The threads; the scores do not depend on their number.
        iteration: Which tasks of the stream.
        by_class: Whether tasks have the same classes, the emotions, so that there are recalls and counts to add up.
    """

    def test(index: int) -> tuple[dict[str, float], pd.DataFrame]:
        task = tasks.task(iteration, index)
        return score(learner.predict(task), task, by_class)

    rows, confusions = zip(*workers.everywhere(test, range(count)), strict=True)
    if not by_class:
        return Scores(pd.DataFrame(list(rows)), pd.DataFrame())
    labels = sorted(set().union(*(matrix.index for matrix in confusions)))  # not every task has every class
    confusion = sum(matrix.reindex(index=labels, columns=labels, fill_value=0) for matrix in confusions)
    return Scores(pd.DataFrame(list(rows)), confusion)


def score(logits: torch.Tensor, task: Task, by_class: bool = True) -> tuple[dict[str, float], pd.DataFrame]:
    """The metrics and the confusion matrix of one task.

    Args:
        logits: ``(queries, N+F)``.
        task: The task they answer.
        by_class: With recalls and counts of single classes, and the accuracy over the emotions.

    Returns:
        The metrics that `Scores` lists; and counts, true classes as rows and predicted ones as columns, both in
        alphabetical order, so that tasks with permuted outputs can be added up.
    """
    names = np.array(task.classes)
    true, predicted = names[task.query_y.cpu().numpy()], names[logits.argmax(dim=1).cpu().numpy()]
    labels = sorted(task.classes)
    emotional = np.isin(true, task.classes[: task.ways])
    hits = true == predicted
    recalls = recall_score(true, predicted, labels=labels, average=None, zero_division=0)
    metrics = {
        "loss": cross_entropy(logits, task.query_y).item(),
        "accuracy": float(hits.mean()),
        **({"accuracy_emotions": float(hits[emotional].mean())} if by_class else {}),
        "macro_f1": float(f1_score(true, predicted, labels=labels, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(true, predicted, labels=labels, average="weighted", zero_division=0)),
        "uar": float(recalls.mean()),
    }
    if not by_class:
        return metrics, pd.DataFrame()
    metrics |= {f"recall_{label}": float(recall) for label, recall in zip(labels, recalls, strict=True)}
    return metrics, pd.DataFrame(confusion_matrix(true, predicted, labels=labels), index=labels, columns=labels)


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean and the half width of its 95 % interval (Student's t); the latter is NaN for fewer than two values."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    return float(array.mean()), float(stats.sem(array) * stats.t.ppf(0.975, len(array) - 1))


def seeded_interval(values: Sequence[float] | np.ndarray, seeds: Sequence[int] | np.ndarray) -> tuple[float, float]:
    """The mean over seeds and tasks, with an interval that covers the training as well as the test tasks.

    Every seed trains anew and draws test tasks of its own, so the seeds' means are independent draws: with two seeds or
    more the interval is Student's t over those means, or the interval over all tasks where that is wider (a few
    means can lie close together by luck). With one seed it covers the test tasks only.
    """
    frame = pd.DataFrame({"value": np.asarray(values, dtype=float), "seed": np.asarray(seeds)})
    means = frame.groupby("seed")["value"].mean()
    over_tasks = mean_interval(frame["value"].to_numpy())[1]
    if len(means) < 2:
        return float(means.mean()), over_tasks
    return float(means.mean()), max(mean_interval(means.to_numpy())[1], over_tasks)
