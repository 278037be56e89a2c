"""What needs no network: logistic regression on the sources' clips, times linear discriminant analysis of the support set.

p(y | x) ∝ p_source(y | x) · p_support(y | x). The first is multinomial logistic regression on all clips of the sources;
the second an LDA whose one covariance is shrunk as Ledoit and Wolf (2004) do, fitted on the support set alone. A class
that is not in the support set (a fixed one) keeps the probability that the sources give it, and the others share the
rest. One clip per class has no covariance: LDA then takes that of the sources' clips around the mean of their class and
domain, shrunk likewise, and only its means are the support set's.

Made for utterance functionals; of features over time it takes each coefficient's mean and deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.linalg import solve
from scipy.special import log_softmax, logsumexp

from metaser import config
from metaser.algorithms.base import NonMetaLearner, Sources
from metaser.tasks import Task
from metaser.tasks.dataset import floating

if TYPE_CHECKING:  # and below where they are used, for scikit-learn takes half a second to import
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import Pipeline

#: Strength of the logistic regression's L2 penalty (1/C), as `metaser.baselines.linear.predict` has it.
PENALTY = 1.0

#: The least logarithm of a probability, so that neither factor alone can rule a class out.
LEAST = -20.0


class Classical(NonMetaLearner):
    """Logistic regression and LDA; see `Learner` for the arguments. The network is not used."""

    savable = False
    Settings = config.Algorithm

    source: Pipeline
    covariance: np.ndarray

    def prepare(self, sources: Sources) -> None:
        """Fits the logistic regression on all clips of the sources, and takes their covariance within class and domain."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x = flat(sources.x)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / PENALTY, max_iter=2000))
        self.source = model.fit(x, np.array(sources.emotions))
        groups = [f"{domain}/{emotion}" for domain, emotion in zip(sources.domains, sources.emotions, strict=True)]
        self.covariance = discriminant().fit(x, groups).covariance_

    def predict(self, task: Task) -> torch.Tensor:
        """Log-probabilities ``(queries, N+F)``.

        Raises:
            ValueError: if the sources lack one of the task's classes.
        """
        absent = set(task.classes) - set(self.source.classes_)
        if absent:
            raise ValueError(f"the sources have no clip of {min(absent)}")
        query, support_y = flat(task.query_x), task.support_y.cpu().numpy()
        known = [list(self.source.classes_).index(name) for name in task.classes]
        prior = log_softmax(np.maximum(self.source.predict_log_proba(query), LEAST)[:, known], axis=1)
        asked = np.unique(support_y)  # the outputs that are in the support set, in order
        near = self.near(flat(task.support_x), support_y, query)
        joint = prior[:, asked] + np.maximum(near, LEAST)
        share = logsumexp(prior[:, asked], axis=1, keepdims=True)
        logits = prior.copy()
        logits[:, asked] = share + log_softmax(joint, axis=1)
        return torch.from_numpy(logits).to(task.query_x.device, torch.float32)

    def near(self, x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
        """The LDA's log-probabilities ``(queries, classes of y)``.

        Args:
            x: Support clips ``(clips, features)``.
            y: ``(clips,)``, their outputs.
            query: ``(queries, features)``.
        """
        if len(np.unique(y)) < len(y):
            return discriminant().fit(x, y).predict_log_proba(query)
        means = x[y.argsort()]
        weights = solve(self.covariance + 1e-9 * np.eye(len(self.covariance)), means.T, assume_a="pos")
        return log_softmax(query @ weights - 0.5 * (means.T * weights).sum(axis=0), axis=1)


def discriminant() -> LinearDiscriminantAnalysis:
    """LDA whose covariance is shrunk as Ledoit and Wolf do."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def flat(x: torch.Tensor) -> np.ndarray:
    """``(clips, features)`` float64 of ``(clips, coefficients, frames)``: as they are where there is one frame."""
    values = floating(x.detach().cpu())
    if values.shape[2] == 1:
        return values[:, :, 0].double().numpy()
    from metaser.baselines.linear import utterance_statistics

    return utterance_statistics(values)
