"""What needs no network: logistic regression on the sources' clips, times linear discriminant analysis of the support set.

p(y | x) ∝ p_source(y | x) · p_support(y | x). The first is multinomial logistic regression on all clips of the sources;
the second an LDA whose one covariance is shrunk as Ledoit and Wolf (2004) do, fitted on the support set alone. A class
that is not in the support set (a fixed one) keeps the probability that the sources give it, and the others share the
rest. Made for utterance functionals; of features over time it takes each coefficient's mean and deviation.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from metaser.algorithms.base import Loopless, Sources
from metaser.baselines.linear import utterance_statistics
from metaser.tasks import Task
from metaser.tasks.dataset import floating

#: Strength of the logistic regression's L2 penalty (1/C), as `metaser.baselines.linear.predict` has it.
PENALTY = 1.0

#: The least logarithm of a probability, so that neither factor alone can rule a class out.
LEAST = -20.0


class Classical(Loopless):
    """Logistic regression and LDA; see `Learner` for the arguments. The network is not used."""

    savable = False
    fits = frozenset()

    source: Pipeline

    def prepare(self, sources: Sources) -> None:
        """Fits the logistic regression on all clips of the sources."""
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / PENALTY, max_iter=2000))
        self.source = model.fit(flat(sources.x), np.array(sources.emotions))

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
        near = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(flat(task.support_x), support_y)
        asked = near.classes_  # the outputs that are in the support set, in order
        joint = prior[:, asked] + np.maximum(near.predict_log_proba(query), LEAST)
        share = logsumexp(prior[:, asked], axis=1, keepdims=True)
        logits = prior.copy()
        logits[:, asked] = share + log_softmax(joint, axis=1)
        return torch.from_numpy(logits).to(task.query_x.device, torch.float32)


def flat(x: torch.Tensor) -> np.ndarray:
    """``(clips, features)`` float64 of ``(clips, coefficients, frames)``: as they are where there is one frame."""
    values = floating(x.detach().cpu())
    return values[:, :, 0].double().numpy() if values.shape[2] == 1 else utterance_statistics(values)
