"""A model in training, on disk: written whole or not at all, the last two kept, and read only when all of it is there.

A checkpoint is one sealed file (`metaser.runtime.sealed`): weights, the optimiser's moments, PyTorch's random state; and as its
facts the position in the task stream, the rows of the results so far, Python's and numpy's random states.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaser.algorithms import Learner
from metaser.runtime import sealed
from metaser.runtime.sealed import DamagedError
from metaser.training import Position

FORMAT = "metaser-checkpoint-1"

#: How many checkpoints of a model are kept: one to go on from, and one for the case that the disk lost the other.
KEPT = 2


class Checkpoints:
    """The checkpoints of one model; `metaser.training.train` calls `restore` once and `keep` after every iteration.

    Args:
        folder: Where they are, one file per checkpoint; made when the first one is written.
        rows: The model's results so far; restoring puts those of the checkpoint into it.
        iterations: Write one after so many iterations; or else
        seconds: write one when so many seconds have passed since the last one.
    """

    def __init__(self, folder: Path, rows: list[dict[str, Any]], iterations: int = 0, seconds: float = 60.0) -> None:
        self.folder, self.rows, self.iterations, self.seconds = folder, rows, iterations, seconds
        self._last = time.monotonic()

    def restore(self, learner: Learner, optimiser: torch.optim.Optimizer) -> Position:
        """Puts the newest whole checkpoint into learner, optimiser, rows and random states; the start where there is none.

        Files that are no whole checkpoint of this model are removed, so that they never count as one of the last two.
        """
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            try:
                return self._load(path, learner, optimiser)
            except DamagedError:
                with contextlib.suppress(OSError):
                    path.unlink()
        return Position()

    def keep(self, learner: Learner, optimiser: torch.optim.Optimizer, position: Position) -> None:
        """Writes a checkpoint if one is due.

        Raises:
            UnwritableError: if it cannot be written; the earlier ones are then as they were.
        """
        due = (position.iteration % self.iterations == 0) if self.iterations else (
            time.monotonic() - self._last >= self.seconds
        )  # fmt: skip
        if due:
            self.write(learner, optimiser, position)
            self._last = time.monotonic()

    def write(self, learner: Learner, optimiser: torch.optim.Optimizer, position: Position) -> None:
        """Writes a checkpoint, and removes all but the last `KEPT`."""
        tensors = {f"weights.{n:04}": p.detach() for n, p in enumerate(learner.parameters())}
        moments = optimiser.state_dict()["state"]
        tensors |= {f"optimiser.{n:04}.{name}": torch.as_tensor(value) for n, state in moments.items()
                    for name, value in state.items()}  # fmt: skip
        tensors["random.torch"] = torch.get_rng_state()
        facts = {"position": asdict(position), "rows": self.rows, "random": random_states()}
        sealed.write(self.folder / f"{position.iteration:09}.safetensors", tensors, facts, FORMAT)
        for old in sorted(self.folder.glob("*.safetensors"))[:-KEPT]:
            old.unlink()

    def _load(self, path: Path, learner: Learner, optimiser: torch.optim.Optimizer) -> Position:
        """Nothing is touched before everything is known to fit."""
        tensors, facts = sealed.read(path, FORMAT)
        parameters = list(learner.parameters())
        wanted = {f"weights.{n:04}": p for n, p in enumerate(parameters)}
        if any(name not in tensors or tensors[name].shape != p.shape or tensors[name].dtype != p.dtype
               for name, p in wanted.items()):  # fmt: skip
            raise DamagedError(f"{path}: holds another network")
        try:
            state = moments(tensors, parameters)
            rows, position = list(facts["rows"]), Position(**facts["position"])
            torch.Generator().set_state(tensors["random.torch"])
            set_random_states(facts["random"], random.Random(), np.random.RandomState())
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise DamagedError(f"{path}: is of another version ({error})") from None
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(tensors[name])
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        self.rows[:] = rows
        torch.set_rng_state(tensors["random.torch"])
        set_random_states(facts["random"], random, np.random)
        return position


def moments(
    tensors: Mapping[str, torch.Tensor], parameters: Sequence[torch.Tensor]
) -> dict[int, dict[str, torch.Tensor]]:
    """The optimiser's state, parameter by parameter.

    Raises:
        ValueError: if it is not of these parameters; IndexError if there are fewer of them.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        kind, *place = name.split(".")
        if kind == "optimiser":
            number, field = place
            parameter = parameters[int(number)]
            if tensor.dim() and tensor.shape != parameter.shape:
                raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
            # In the parameter's own memory order, so that the next step runs through the very same kernels.
            alike = torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            state.setdefault(int(number), {})[field] = alike.detach()
    return state


def random_states() -> dict[str, Any]:
    """Python's and numpy's global random states, as JSON takes them."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    return {"python": [version, list(numbers), gauss],
            "numpy": [name, np.asarray(keys).tolist(), place, has_gauss, cached]}  # fmt: skip


def set_random_states(states: Mapping[str, Any], python: Any, numpy: Any) -> None:
    """Puts what `random_states` gave into two generators: the modules `random` and `numpy.random`, or ones like theirs."""
    version, numbers, gauss = states["python"]
    python.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    numpy.set_state((name, np.array(keys, dtype=np.uint32), place, has_gauss, cached))
