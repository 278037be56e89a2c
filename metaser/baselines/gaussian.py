"""A Gaussian classifier of the sources, adapted to a task: MAP means, one shared covariance, the query set as unlabelled data.

Every class is a Gaussian around its own mean, all with one covariance (linear discriminant analysis). The sources' clips
give a mean m_c and the covariance; a task's support set moves them:

    μ_c = (n_c s_c + k m_c) / (n_c + k)      the posterior mean under a conjugate prior worth k clips (relevance MAP:
                                              Gauvain, Lee, IEEE Trans. Speech and Audio Processing 2(2), 1994)
    Σ   = (1 − ρ) ((1 − a) Σ_sources + a Σ_support) + ρ diag(Σ_sources)

with the support set's mean s_c of n_c clips. A class without support keeps the sources' mean, which is what a fixed class
is; one that no source has is its support set's mean alone. One clip per class has no covariance: Σ_support is 0, and
a draws that of the sources further to its diagonal.

Then, as expectation maximisation on unlabelled data (Nigam et al., Machine Learning 39, 2000), the query clips count for the
means, each by ``unlabelled`` times its probability: *transductive*, unless ``unlabelled`` is 0.

Options with several values are chosen on the sources: each source language in turn gives tasks of the test's shape, and
the others are its sources. The target has no part in it. Of all combinations the best third is kept, and their
probabilities are averaged: a single best one is chosen by the accidents of one language. Every source counts alike, however many
clips it has. Made for utterance functionals, brought to z-scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import BeforeValidator, Field, model_validator
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_softmax, logsumexp, softmax
from torch import nn

from metaser import config
from metaser.algorithms.base import NonMetaLearner, Sources
from metaser.baselines.classical import flat
from metaser.config.base import Number, Rate, Section
from metaser.tasks import Task

#: z-scores beyond this are cut off: functionals of odd clips have long tails.
LIMIT = 5.0

#: Steps of expectation maximisation.
STEPS = 8

#: Tasks of the sources that options are chosen on, and the share of all combinations that is kept.
CHOICE_TASKS, KEPT = 40, 1 / 3


class Combination(NamedTuple):
    """One value for each of `Options`."""

    own: float
    shrinkage: float
    prior: float
    temperature: float
    unlabelled: float
    fixed: float


def listed(value: object) -> object:
    """One value stands for a list of it."""
    return [value] if isinstance(value, int | float | str) else value


#: The most combinations of options: a model file may come from anybody, and asks for them.
COMBINATIONS = 1000

Many = Field(min_length=1, max_length=20, strict=False)
Shares = Annotated[tuple[Annotated[Number, Field(ge=0, le=1)], ...], BeforeValidator(listed), Many]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(listed), Many]
Offsets = Annotated[tuple[Annotated[Number, Field(ge=-100, le=100)], ...], BeforeValidator(listed), Many]


class Options(Section):
    """What is open; of all combinations of several values the best on the sources are averaged.

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

    @model_validator(mode="after")
    def _countable(self) -> Options:
        if (count := math.prod(len(getattr(self, name)) for name in Combination._fields)) > COMBINATIONS:
            raise ValueError(f"{count} combinations of options are more than {COMBINATIONS}")
        return self

    def grid(self) -> list[Combination]:
        """All combinations."""
        return [Combination(*each) for each in product(*(getattr(self, name) for name in Combination._fields))]


class GaussianSettings(config.Algorithm):
    """Of `Gaussian`.

    Attributes:
        gaussian: Its options.
    """

    gaussian: Options | None = None


@dataclass(frozen=True)
class Moments:
    """Of the clips of one class in one domain: their mean ``(features,)`` and covariance ``(features, features)``."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Prior:
    """Prior moments of a task's classes, of the sources: ``(classes, features)``, ``(features, features)``, and which they have."""

    means: np.ndarray
    covariance: np.ndarray
    present: np.ndarray


class Gaussian(NonMetaLearner):
    """An adapted Gaussian classifier; see `Learner` for the arguments. The network is not used.

    Attributes:
        moments: Domain → class → what the sources say of it.
        kept: The combinations of options whose answers are averaged, in the grid's order; all until there is a choice.
    """

    Settings = GaussianSettings
    settings: GaussianSettings
    moments: dict[str, dict[str, Moments]]

    def __init__(self, model: nn.Module, settings: GaussianSettings, options: config.Engine | None = None) -> None:
        super().__init__(model, settings, options)
        self.grid = (settings.gaussian or Options()).grid()
        self.kept = self.grid
        self._priors: dict[tuple[tuple[str, ...], int, str], Prior] = {}

    def prepare(self, sources: Sources) -> None:
        """Takes every class's mean and covariance, domain by domain."""
        x, names, domains = clipped(sources.x), np.array(sources.emotions), np.array(sources.domains)
        self.moments, self._priors = {}, {}
        for domain in sorted(set(sources.domains)):
            here = self.moments[domain] = {}
            for name in sorted(set(names[domains == domain])):
                own = x[(domains == domain) & (names == name)]
                centred = own - own.mean(axis=0)
                here[str(name)] = Moments(own.mean(axis=0), centred.T @ centred / len(own))

    def finish(self, task: Callable[[int], Task]) -> None:
        """Chooses the options, where there are several: by the mean of both accuracies over tasks of the sources.

        With one source there is nothing to leave out, and all are kept.
        """
        if len(self.grid) == 1 or len(self.moments) == 1:
            return
        scores = np.zeros(len(self.grid))
        for number in range(CHOICE_TASKS):
            scores += self.scores(task(number))
        order = (-scores).argsort(kind="stable")[: max(1, round(KEPT * len(self.grid)))]
        self.kept = [self.grid[place] for place in sorted(order)]
        self.chosen = {
            **self.grid[order[0]]._asdict(),
            "score": scores[order[0]] / CHOICE_TASKS,
            "averaged": len(order),
        }

    def scores(self, task: Task) -> np.ndarray:
        """For all of the grid: the mean of the accuracies over all classes and over the emotions, without the task's own domain."""
        true = task.query_y.cpu().numpy()
        hits = self.answers(task, self.grid, without=task.domain).argmax(axis=2) == true
        return (hits.mean(axis=1) + hits[:, true < task.ways].mean(axis=1)) / 2

    def answers(self, task: Task, grid: Sequence[Combination], without: str = "") -> np.ndarray:
        """Log-probabilities ``(options, queries, N+F)`` by each combination; one covariance serves several."""
        found = [Posterior(self, task, *shared, without).logits(list(together))
                 for shared, together in groupby(grid, key=lambda options: (options.own, options.shrinkage))]  # fmt: skip
        return log_softmax(np.concatenate(found), axis=2)

    def predict(self, task: Task) -> torch.Tensor:
        """Log-probabilities ``(queries, N+F)``.

        Raises:
            ValueError: if the sources lack one of the task's classes that the support set lacks, too.
        """
        logits = logsumexp(self.answers(task, self.kept), axis=0) - math.log(len(self.kept))
        return torch.from_numpy(logits).to(task.query_x.device, torch.float32)

    def prior(self, classes: tuple[str, ...], ways: int, without: str) -> Prior:
        """What the sources, all or without one domain, say of some classes.

        Each source counts alike. The covariance is that within classes and sources, of the first classes: fixed ones, such as
        noise, are spread otherwise. Where the sources have none of them, it is of all that they have.
        """
        key = classes, ways, without
        if key not in self._priors:
            sources = [here for domain, here in self.moments.items() if domain != without]
            parts = [[here[name] for here in sources if name in here] for name in classes]
            spread = [part for found in parts[:ways] for part in found] or [
                part for here in sources for part in here.values()
            ]
            none = np.zeros_like(spread[0].mean)
            means = np.stack([np.mean([part.mean for part in found], axis=0) if found else none for found in parts])
            covariance = np.mean([part.covariance for part in spread], axis=0)
            self._priors[key] = Prior(means, covariance, np.array([bool(found) for found in parts]))
        return self._priors[key]

    def state(self) -> dict[str, torch.Tensor]:
        """Every moment under its JSON list of domain, class and kind, and the options that are kept."""
        found = {json.dumps([domain, name, kind]): torch.from_numpy(getattr(moments, kind))
                 for domain, here in self.moments.items() for name, moments in here.items()
                 for kind in ("mean", "covariance")}  # fmt: skip
        return found | {"options": torch.tensor([list(options) for options in self.kept], dtype=torch.float64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """See `Learner.restore`."""
        options, found = state.get("options", torch.empty(0)), dict[tuple[str, str], dict[str, np.ndarray]]()
        for key, tensor in state.items():
            if key != "options":
                domain, name, kind = json.loads(key)
                found.setdefault((domain, name), {})[kind] = tensor.numpy()
        width = {part["mean"].size for part in found.values() if "mean" in part}
        whole = all(part.keys() == {"mean", "covariance"} and part["mean"].ndim == 1
                    and part["covariance"].shape == 2 * part["mean"].shape for part in found.values())  # fmt: skip
        if len(width) != 1 or not whole or options.dim() != 2 or options.shape[1] != len(Combination._fields):
            raise ValueError("the moments and options of a Gaussian classifier are not whole")
        self.kept = [Combination(*row) for row in options.tolist()]
        self.moments, self._priors = {}, {}
        for (domain, name), part in found.items():
            self.moments.setdefault(domain, {})[name] = Moments(**part)


class Posterior:
    """A task under one covariance.

    Every mean is a weighted sum of the same vectors: the sources' means, the support set's sums and the query clips. So
    their products under Σ⁻¹, taken once, serve all means and all options.

    Args:
        learner: Knows the sources.
        task: The task.
        own: a.
        shrinkage: ρ.
        without: A domain that is left out of the sources.
    """

    def __init__(self, learner: Gaussian, task: Task, own: float, shrinkage: float, without: str = "") -> None:
        support, query = clipped(task.support_x), clipped(task.query_x)
        member = np.eye(len(task.classes))[task.support_y.cpu().numpy()]  # (clips, N+F)
        self.counts, self.ways = member.sum(axis=0)[:, None], task.ways
        prior = learner.prior(task.classes, task.ways, without)
        means, sources, self.present = prior.means, prior.covariance, prior.present[:, None]
        sums = member.T @ support
        seen = self.counts[:, 0] > 0
        absent = np.flatnonzero(~seen & ~prior.present)
        if len(absent):
            raise ValueError(f"neither the sources nor the support set have a clip of {task.classes[absent[0]]}")
        residuals = support - member[:, seen] @ (sums[seen] / self.counts[seen])
        free = max(1, len(residuals) - int(seen.sum()))
        mixed = (1 - own) * sources + own * residuals.T @ residuals / free
        factor = cho_factor(
            (1 - shrinkage) * mixed + shrinkage * np.diag(np.diag(sources)) + 1e-9 * np.eye(len(sources))
        )
        vectors = np.concatenate([means, sums, query])
        self.products = vectors @ cho_solve(factor, vectors.T)
        self.queries = slice(len(vectors) - len(query), None)

    def logits(self, grid: Sequence[Combination]) -> np.ndarray:
        """``(options, queries, N+F)``: scaled log-likelihoods by each combination, up to what is the same for all classes."""
        prior, temperature, unlabelled, fixed = (
            np.array([getattr(options, name) for options in grid])[:, None, None]
            for name in ("prior", "temperature", "unlabelled", "fixed")
        )
        prior = prior * self.present  # (options, N+F, 1)
        identity = np.broadcast_to(np.eye(len(self.counts)), (len(grid), len(self.counts), len(self.counts)))
        own = np.concatenate([prior * identity, identity], axis=2)  # of the sources' means and the support set's sums
        share = np.zeros((len(grid), len(self.products[self.queries]), len(self.counts)))
        for _ in range(1 + (STEPS if unlabelled.any() else 0)):
            total = self.counts + prior + share.sum(axis=1)[:, :, None]
            weights = np.concatenate([own, share.swapaxes(1, 2)], axis=2) / total  # (options, N+F, vectors): the means
            along = weights @ self.products
            lengths = (along * weights).sum(axis=2)[:, None, :]
            logits = temperature * (along[:, :, self.queries].swapaxes(1, 2) - 0.5 * lengths)
            logits[:, :, self.ways :] += fixed
            share = unlabelled * softmax(logits, axis=2)
        return logits


def clipped(x: torch.Tensor) -> np.ndarray:
    """``(clips, features)`` float64 within ±`LIMIT`."""
    return flat(x).clip(-LIMIT, LIMIT)
