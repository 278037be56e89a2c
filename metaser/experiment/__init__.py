"""A run of an experiment: which models there are (`trials`), each trained and tested (`trial`), kept and gone on with (`run`)."""

from metaser.experiment.run import Run, RunOptions

__all__ = ["Run", "RunOptions"]
