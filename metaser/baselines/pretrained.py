"""Networks that are trained on the sources' clips before anything else: TransSER, and joint pre-training.

TransSER (MetaSER's baseline, Chopra et al., ICASSP 2021, section 4) is trained on one source after another, in their order;
fine-tuned on the target with its LSTM frozen (``tuning: {layers: dense}``). Joint pre-training takes all sources together,
and is what the paper left out. Without ``pretraining`` a network knows its target alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from metaser.algorithms.base import NonMetaLearner, Sources
from metaser.tasks import Task


class Joint(NonMetaLearner):
    """Trained on all sources at once; see `Learner` for the arguments."""

    def predict(self, task: Task) -> torch.Tensor:
        """Query logits ``(queries, N)`` of the network as it is."""
        with torch.no_grad():
            return self.model(task.query_x)


class TransSER(Joint):
    """Trained on one source after another."""

    def stages(self, sources: Sources) -> Iterator[tuple[str, list[int]]]:
        """The sources, in their order."""
        for domain in dict.fromkeys(sources.domains):
            yield domain, [row for row, name in enumerate(sources.domains) if name == domain]
