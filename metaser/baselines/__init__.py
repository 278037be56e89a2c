"""What the meta-learners are compared with, each a `metaser.algorithms.Learner`. A new one is one file, and one line here."""

from __future__ import annotations

from metaser.algorithms.base import Learner
from metaser.baselines.classical import Classical
from metaser.baselines.gaussian import Gaussian
from metaser.baselines.protonet import ProtoNet
from metaser.baselines.supervised import Supervised

BASELINES: dict[str, type[Learner]] = {
    "supervised": Supervised,
    "protonet": ProtoNet,
    "classical": Classical,
    "gaussian": Gaussian,
}
