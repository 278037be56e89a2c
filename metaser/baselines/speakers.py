"""What knowing the speaker alone is worth: every clip is given the commonest emotion of its speaker in the support set.

Nothing is heard. Where it does well, as on URDU (26 of whose 29 speakers have one emotion only), a random division measures
who speaks, not how. A speaker who is not in the support set gets the commonest emotion of all.
"""

from __future__ import annotations

import numpy as np
import torch

from metaser import config
from metaser.algorithms.base import NonMetaLearner
from metaser.tasks import Task


class Speakers(NonMetaLearner):
    """Speaker → commonest label; see `Learner` for the arguments. The network is not used."""

    Settings = config.Algorithm

    def predict(self, task: Task) -> torch.Tensor:
        """Logarithms ``(queries, N)`` of how often each class is the speaker's, a clip of all speakers counting a little."""
        member = np.eye(len(task.classes))[task.support_y.cpu().numpy()]
        everyone = member.mean(axis=0)
        counts = {who: member[np.array(task.support_speakers) == who].sum(axis=0) for who in set(task.support_speakers)}
        shares = np.stack([counts.get(who, 0) + 0.1 * everyone + 1e-6 for who in task.query_speakers])
        return torch.from_numpy(np.log(shares / shares.sum(axis=1, keepdims=True))).to(
            task.query_x.device, torch.float32
        )
