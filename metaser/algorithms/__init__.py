"""Meta-learning algorithms by name. A new one is one file, and one line here."""

from __future__ import annotations

from torch import nn

from metaser import config
from metaser.algorithms.anil import ANIL
from metaser.algorithms.base import Learner, MetaGradient
from metaser.algorithms.fmaml import FMAML
from metaser.algorithms.maml import FOMAML, MAML
from metaser.algorithms.metasgd import MetaSGD
from metaser.algorithms.regmaml import RegMAML
from metaser.algorithms.reptile import Reptile
from metaser.runtime.errors import UserError, nearest

__all__ = [
    "ALGORITHMS",
    "ANIL",
    "FMAML",
    "FOMAML",
    "MAML",
    "Learner",
    "MetaGradient",
    "MetaSGD",
    "RegMAML",
    "Reptile",
    "build",
]

ALGORITHMS: dict[str, type[Learner]] = {
    "maml": MAML,
    "fomaml": FOMAML,
    "fmaml": FMAML,
    "reptile": Reptile,
    "regmaml": RegMAML,
    "metasgd": MetaSGD,
    "anil": ANIL,
}


def build(settings: config.Algorithm, model: nn.Module, options: config.Engine | None = None) -> Learner:
    """The algorithm that the settings name, around ``model``, on the engine that the options name.

    Raises:
        UserError: if there is no such algorithm, or it does not go with the engine's options.
    """
    if settings.name not in ALGORITHMS:
        raise UserError(f"unknown algorithm {settings.name!r}; {nearest(settings.name, ALGORITHMS)}")
    return ALGORITHMS[settings.name](model, settings, options)
