"""One run over several processes, started by ``torchrun``: who is which, and what they tell each other.

The tasks of a meta-batch are split over the ranks; every rank sums the meta-gradients of its own, one all-reduce adds the
sums up, and all take the same outer step. There is no wrapper around the network, so nothing depends on how an algorithm
differentiates. Rank 0 alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from metaser.runtime.errors import StoppedError, UserError, first_line

Item = TypeVar("Item")

#: How long a rank waits for the others before it says that one is lost; a rank may test or write in the meantime.
PATIENCE = timedelta(minutes=10)


class Ranks:
    """This process among the run's; alone unless `join` finds that torchrun started it.

    Args:
        rank: Which it is, from 0.
        count: How many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Meets the other ranks, over gloo on a CPU and nccl on GPUs.

        Raises:
            UserError: if torchrun's variables make no sense.
        """
        if "WORLD_SIZE" not in os.environ:
            return cls()
        # Its functions have ``group=group.WORLD`` for a default, fixed when it is first imported, as torch's compiler or an
        # optimiser makes it be. After the ranks have met that would hold the process group for ever: its threads would
        # outlive Python, and one that lets go of a tensor too late ends the process with SIGABRT. So it is imported before.
        import torch.distributed.nn  # not above: it imports torch's compiler, which one process alone does not need

        try:
            count = int(os.environ["WORLD_SIZE"])
            if count == 1:
                return cls()
            if device.type == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"the ranks do not meet ({first_line(error)}); start them with torchrun") from None
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of the items, which together are all of them."""
        return items[self.rank :: self.count]

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of all ranks' tensors, in place."""
        if self.count > 1:
            with heard():
                dist.all_reduce(tensor)
        return tensor

    def together(self, own: Sequence[Item]) -> list[Item]:
        """What `own` split, after each rank worked on its part: everything in the first order, on every rank."""
        if self.count == 1:
            return list(own)
        parts: list[Any] = [None] * self.count
        with heard():
            dist.all_gather_object(parts, list(own))
        whole = [None] * sum(len(part) for part in parts)
        for rank, part in enumerate(parts):
            whole[rank :: self.count] = part
        return whole  # type: ignore[return-value]

    def tell(self, value: Item) -> Item:
        """Rank 0's value, on every rank."""
        if self.count == 1:
            return value
        box = [value]
        with heard():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def align(self, parameters: Sequence[nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        """Gives every rank rank 0's parameters and optimiser state."""
        if self.count == 1:
            return
        with heard():
            for parameter in parameters:
                values = parameter.detach().contiguous()
                dist.broadcast(values, src=0)
                with torch.no_grad():
                    parameter.copy_(values)
        state = self.tell(optimiser.state_dict())
        if not self.first:
            optimiser.load_state_dict(state)

    def leave(self) -> None:
        """Ends what `join` began; gloo's threads have ended when it returns."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def heard() -> Iterator[None]:
    """Turns the failure of a collective operation into one line."""
    try:
        yield
    except RuntimeError as error:
        raise StoppedError(f"another rank ended or cannot be reached ({first_line(error)[:80]}); the same command goes on from "
                           f"the last checkpoint") from None  # fmt: skip
