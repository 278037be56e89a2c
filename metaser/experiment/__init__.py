"""A run of an experiment (`run`): its clips (`data`), which models there are (`trials`), each trained and tested (`trial`) and kept
(`runner`), side by side or one after another (`training`, `pool`)."""

from metaser.experiment.run import Run
from metaser.experiment.training import RunOptions

__all__ = ["Run", "RunOptions"]
