"""Networks that are trained on the sources' clips before anything else: TransSER, and joint pre-training.

TransSER (MetaSER's baseline, Chopra et al., ICASSP 2021, section 4) is trained on one source after another, in their order;
fine-tuned on the target with its LSTM frozen (``tuning: {layers: dense}``). Joint pre-training takes all sources together,
and is what the paper left out. Without ``pretraining`` a network knows its target alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from metaser.algorithms.base import Learner, MetaGradient, Sources
from metaser.engine import Group
from metaser.errors import UserError
from metaser.fitting import fit, seed_of
from metaser.tasks import Task


class Joint(Learner):
    """Trained on all sources at once; see `Learner` for the arguments."""

    def prepare(self, sources: Sources) -> None:
        """Pre-trains the network, part by part."""
        self.chosen = {}
        labels = torch.tensor([sources.classes.index(name) for name in sources.emotions], device=sources.x.device)
        for name, rows in self.stages(sources) if self.settings.pretraining else ():
            seed = seed_of(*self.parameters())
            done = self.pretrain(sources.x[rows], labels[rows], seed)
            self.chosen = {**self.chosen, f"epochs_{name}": done}

    def stages(self, sources: Sources) -> Iterator[tuple[str, list[int]]]:
        """The parts of the sources that are trained on, one after another: name and rows."""
        yield "all", list(range(len(sources.domains)))

    def pretrain(self, x: torch.Tensor, y: torch.Tensor, seed: int) -> int:
        """Trains on some clips; the epoch whose weights were kept."""
        assert self.settings.pretraining is not None, "it is asked only then"
        return fit(self.model, x, y, self.settings.pretraining, seed).best

    def meta_gradient(self, group: Group) -> MetaGradient:
        """Refused.

        Raises:
            UserError: always; it does not learn from tasks.
        """
        raise UserError("a pre-trained baseline is not trained on tasks; set its iterations: 0")

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
