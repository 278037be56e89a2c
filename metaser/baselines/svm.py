"""Support vector machines on utterance functionals: of the support set alone, or with the sources' clips beside it.

scikit-learn's SVC with an RBF kernel on standardised features, classes weighted alike. Its penalty C is chosen on the
sources: where tasks are divisions of whole corpora (`metaser.config.Split`), on divisions of these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from metaser import config
from metaser.algorithms.base import NonMetaLearner, Sources
from metaser.baselines.classical import flat
from metaser.tasks import Task

#: Values of C to choose from, and the tasks of the sources that it is chosen on.
PENALTIES, CHOICE_TASKS = (0.3, 1.0, 3.0, 10.0, 30.0), 9


class SVM(NonMetaLearner):
    """An SVM of the support set; see `Learner` for the arguments. The network is not used.

    Attributes:
        penalty: C.
    """

    savable = False
    Settings = config.Algorithm

    penalty = 3.0
    #: Whether it trains on the sources' clips, too.
    with_sources = False

    def __init__(self, model: nn.Module, settings: config.Algorithm, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        self.x, self.emotions, self.domains = np.empty((0, 0)), np.empty(0, dtype=str), np.empty(0, dtype=str)

    def prepare(self, sources: Sources) -> None:
        """Keeps the sources' clips."""
        self.x, self.emotions, self.domains = flat(sources.x), np.array(sources.emotions), np.array(sources.domains)

    def finish(self, task: Callable[[int], Task]) -> None:
        """Chooses C by macro-F1 on tasks of the sources, each without the clips of its own source beside it."""
        from sklearn.metrics import f1_score

        scores = np.zeros(len(PENALTIES))
        for number in range(CHOICE_TASKS):
            asked = task(number)
            true = asked.query_y.cpu().numpy()
            found = [self.answer(asked, penalty, asked.domain).argmax(axis=1) for penalty in PENALTIES]
            scores += [f1_score(true, predicted, average="macro", zero_division=0) for predicted in found]
        self.penalty = PENALTIES[int(scores.argmax())]
        self.chosen = {"penalty": self.penalty, "score": float(scores.max()) / CHOICE_TASKS}

    def answer(self, task: Task, penalty: float, without: str = "") -> np.ndarray:
        """Decision values ``(queries, N)``; a class without clips has none, and is never answered.

        Args:
            task: The task.
            penalty: C.
            without: A source whose clips are not used.
        """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        x, y = flat(task.support_x), task.support_y.cpu().numpy()
        if self.with_sources:
            used = (self.domains != without) & np.isin(self.emotions, task.classes)
            labels = np.array([task.classes.index(name) for name in self.emotions[used]], dtype=int)
            x, y = np.concatenate([x, self.x[used]]), np.concatenate([y, labels])
        model = make_pipeline(
            StandardScaler(), SVC(C=penalty, class_weight="balanced", decision_function_shape="ovr")
        ).fit(x, y)
        values = model.decision_function(flat(task.query_x))
        values = np.stack([-values, values], axis=1) if values.ndim == 1 else values
        logits = np.full((len(values), len(task.classes)), -1e3)
        logits[:, model.classes_] = values
        return logits

    def predict(self, task: Task) -> torch.Tensor:
        """Decision values ``(queries, N)``."""
        return torch.from_numpy(self.answer(task, self.penalty)).to(task.query_x.device, torch.float32)


class SourcesSVM(SVM):
    """An SVM of the sources' clips and the support set together."""

    with_sources = True
