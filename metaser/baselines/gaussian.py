"""A Gaussian classifier of the sources, adapted to a task: MAP means, one shared covariance, the query set as unlabelled data.

Every class is a Gaussian around its own mean, all with one covariance (linear discriminant analysis). The sources' clips
give a mean m_c and the covariance; a task's support set moves them:

    μ_c = (n_c s_c + k m_c) / (n_c + k)      the posterior mean under a conjugate prior worth k clips (relevance MAP:
                                              Gauvain, Lee, IEEE Trans. Speech and Audio Processing 2(2), 1994)
    Σ   = (1 − ρ) ((1 − a) Σ_sources + a Σ_support) + ρ σ² I

with the support set's mean s_c of n_c clips. A class without support keeps the sources' mean, which is what a fixed class
is. Then, as expectation maximisation on unlabelled data (Nigam et al., Machine Learning 39, 2000), the query clips count
for the means, each by ``unlabelled`` times its probability: *transductive*, unless ``unlabelled`` is 0.
Made for utterance functionals, brought to z-scores.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_softmax, softmax

from metaser.algorithms.base import Learner, MetaGradient, Sources
from metaser.baselines.classical import flat
from metaser.config import Gaussian as Settings
from metaser.engine import Group
from metaser.errors import UserError
from metaser.tasks import Task

#: z-scores beyond this are cut off: functionals of odd clips have long tails.
LIMIT = 5.0

#: Steps of expectation maximisation.
STEPS = 8


class Gaussian(Learner):
    """An adapted Gaussian classifier; see `Learner` for the arguments. The network is not used.

    Attributes:
        means: Class → the sources' mean.
        scatters: Class → the sum of the outer products of what its clips differ from that mean by, and their number.
    """

    means: dict[str, np.ndarray]
    scatters: dict[str, tuple[np.ndarray, int]]

    def prepare(self, sources: Sources) -> None:
        """Takes every class's mean and scatter."""
        x, names = clipped(sources.x), np.array(sources.emotions)
        self.means, self.scatters = {}, {}
        for name in sorted(set(sources.emotions)):
            own = x[names == name]
            self.means[name] = own.mean(axis=0)
            self.scatters[name] = ((own - self.means[name]).T @ (own - self.means[name]), len(own))

    def meta_gradient(self, group: Group) -> MetaGradient:
        """Refused.

        Raises:
            UserError: always; there is nothing that gradients could train.
        """
        raise UserError("the Gaussian classifier is not trained by gradients; set its iterations: 0")

    def predict(self, task: Task) -> torch.Tensor:
        """Log-probabilities ``(queries, N+F)``.

        Raises:
            ValueError: if the sources lack one of the task's classes.
        """
        absent = set(task.classes) - set(self.means)
        if absent:
            raise ValueError(f"the sources have no clip of {min(absent)}")
        options = self.settings.gaussian or Settings()
        support, query = clipped(task.support_x), clipped(task.query_x)
        member = np.eye(len(task.classes))[task.support_y.cpu().numpy()]  # (clips, N+F)
        counts = member.sum(axis=0)
        known = np.stack([self.means[name] for name in task.classes])
        own = np.divide(member.T @ support, counts[:, None], out=known.copy(), where=counts[:, None] > 0)
        factor = cho_factor(self.covariance(task, support - member @ own, options))
        fixed_part = member.T @ support + options.prior * known

        def asked(means: np.ndarray) -> np.ndarray:
            slopes = cho_solve(factor, means.T)  # (features, N+F)
            return options.temperature * (query @ slopes - 0.5 * np.einsum("cf,fc->c", means, slopes))

        logits = asked(fixed_part / (counts + options.prior)[:, None])
        for _ in range(STEPS if options.unlabelled else 0):
            share = options.unlabelled * softmax(logits, axis=1)
            logits = asked((fixed_part + share.T @ query) / (counts + options.prior + share.sum(axis=0))[:, None])
        return torch.from_numpy(log_softmax(logits, axis=1)).to(task.query_x.device, torch.float32)

    def covariance(self, task: Task, residuals: np.ndarray, options: Settings) -> np.ndarray:
        """Σ ``(features, features)``: of the classes that are not fixed, from sources and support set, shrunk."""
        scatters, counts = zip(*(self.scatters[name] for name in task.classes[: task.ways]), strict=True)
        pooled = np.sum(scatters, axis=0) / sum(counts)
        free = max(1, len(residuals) - len(torch.unique(task.support_y)))
        mixed = (1 - options.own) * pooled + options.own * residuals.T @ residuals / free
        identity = np.eye(len(pooled)) * np.trace(pooled) / len(pooled)
        return (1 - options.shrinkage) * mixed + options.shrinkage * identity


def clipped(x: torch.Tensor) -> np.ndarray:
    """``(clips, features)`` float64 within ±`LIMIT`."""
    return flat(x).clip(-LIMIT, LIMIT)
