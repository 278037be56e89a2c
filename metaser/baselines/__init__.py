"""What the meta-learners are compared with, each a `metaser.algorithms.Learner`. A new one is one file, and one line here."""

from __future__ import annotations

from metaser.algorithms.base import Learner
from metaser.baselines.classical import Classical
from metaser.baselines.gaussian import Gaussian
from metaser.baselines.matching import MatchingNet
from metaser.baselines.multiser import MultiSER
from metaser.baselines.pretrained import Joint, TransSER
from metaser.baselines.protonet import ProtoNet
from metaser.baselines.relation import RelationNet
from metaser.baselines.speakers import Speakers
from metaser.baselines.supervised import Supervised
from metaser.baselines.svm import SVM, SourcesSVM

BASELINES: dict[str, type[Learner]] = {
    "supervised": Supervised,
    "protonet": ProtoNet,
    "matching": MatchingNet,
    "relation": RelationNet,
    "classical": Classical,
    "gaussian": Gaussian,
    "joint": Joint,
    "transser": TransSER,
    "multiser": MultiSER,
    "svm": SVM,
    "svm-sources": SourcesSVM,
    "speakers": Speakers,
}
