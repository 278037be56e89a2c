"""For whoever has a few labelled clips: a trained model, adapted to them, and what it says of others.

metaser.train("model.safetensors")                            # once, on the corpora that are there
model = metaser.load("model.safetensors").adapt("clips/")     # clips/anger/1.wav, clips/joy/1.wav, ...
model.predict("new/").table()                                 # a row per clip: label, probabilities
model.save("mine.safetensors")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaser.adaptation.model import Model, adapt, load

__all__ = ["Model", "adapt", "load", "train"]


def train(
    out: str | Path, corpora: Sequence[str] = (), algorithm: str = "", root: str | Path | None = None,
    experiment: str | Path = "experiments/adapt", settings: Sequence[str] = (),
) -> Model:  # fmt: skip
    """Trains a model, writes its file, and loads it; a training that was stopped goes on from its last checkpoint.

    Args:
        out: The model file to write.
        corpora: To train on; when empty, those of the experiment that are there.
        algorithm: Its label in the experiment; the first one when not given.
        root: The data root, instead of METASER_DATA.
        experiment: The folder of the experiment whose settings are used.
        settings: ``key=value`` settings over these.

    Raises:
        UserError: as `metaser.adaptation.training.train`.
    """
    from metaser.adaptation import training

    training.train(Path(out), Path(experiment), label=algorithm, corpora=corpora, overrides=settings,
                   root=Path(root) if root else None)  # fmt: skip
    return load(out)
