"""The one training loop, the one evaluation loop, checkpoints, and every learner by name."""

from metaser.training.loop import Position, apply, meta_iteration, train

__all__ = ["Position", "apply", "meta_iteration", "train"]
