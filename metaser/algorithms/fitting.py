"""Mini-batch training on labelled clips: pre-training on a source corpus, fine-tuning on a target's training part.

Adam with a cyclic learning rate, stopped early by the loss on held-out clips: what MetaSER's authors give their baselines
(ICASSP 2021, section 4). Everything random comes from ``seed``.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from metaser import config
from metaser.models import seeded
from metaser.runtime.errors import DivergedError, UserError
from metaser.runtime.progress import say_once
from metaser.runtime.sealed import digest
from metaser.tasks.splits import by_class, by_group

#: The loss of a network's answers to clips ``(clips, coefficients, frames)`` with labels ``(clips,)``, and the number of the step;
#: None on held-out clips.
Objective = Callable[[torch.Tensor, torch.Tensor, int | None], torch.Tensor]


#: How many networks `fit_once` remembers.
REMEMBERED = 8
_remembered: OrderedDict[str, tuple[dict[str, torch.Tensor], Fitted, float]] = OrderedDict()


@dataclass(frozen=True)
class Fitted:
    """How it went.

    Attributes:
        epochs: That were gone through.
        best: After which the loss on the held-out clips was smallest; 0 for before the first, the last one where none are held out.
        loss: That loss, in nats; 0 where none are.
    """

    epochs: int
    best: int
    loss: float


def fit(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: config.Fit, seed: int, speakers: Sequence[str] = (),
    objective: Objective | None = None,
) -> Fitted:  # fmt: skip
    """Trains ``network`` in place.

    Args:
        network: Its frozen part is asked once, if it says what that is (``represent``, and ``decide`` for the rest).
        x: ``(clips, coefficients, frames)``.
        y: ``(clips,)``.
        settings: How.
        seed: Of the held-out clips, the order of the others, and what is done to them.
        speakers: Who speaks in each clip, where the held-out clips are to be of other speakers; as far as classes allow.
        objective: Mean cross-entropy when not given.

    Raises:
        DivergedError: if the loss is no longer a finite number.
    """
    frozen = settings.layers == "dense" and hasattr(network, "represent") and not settings.augments
    answer: Callable[[torch.Tensor], torch.Tensor] = network.decide if frozen else network  # type: ignore[assignment]
    loss = objective or (lambda clips, labels, step: F.cross_entropy(answer(clips), labels))
    learned = trained(network, settings.layers)
    rng = torch.Generator().manual_seed(seed)
    kept, held = hold_out(y.cpu().numpy(), settings.validation, seed, speakers)
    if settings.head == "prototypes":
        set_prototypes(network, x[kept], y[kept])
    elif settings.head == "fresh":
        redraw(network, seed)
    if frozen:
        with torch.no_grad():
            x = network.represent(x)  # type: ignore[operator]
    optimiser = torch.optim.Adam(learned, lr=settings.base_lr)
    steps = len(batches(torch.as_tensor(kept), settings.batch))
    rates = torch.optim.lr_scheduler.CyclicLR(
        optimiser, settings.base_lr, settings.max_lr, max(1, steps * settings.cycle // 2), cycle_momentum=False
    )

    def held_out() -> float:
        with torch.no_grad():
            return float(loss(x[held], y[held], None))

    best, at, epoch, step = held_out() if len(held) else 0.0, 0, 0, 0
    weights = copy.deepcopy(network.state_dict()) if len(held) else {}
    for epoch in range(1, settings.epochs + 1):
        order = torch.as_tensor(kept)[torch.randperm(len(kept), generator=rng)]
        for rows in batches(order, settings.batch):
            clips = augmented(x[rows], settings, rng) if settings.augments else x[rows]
            found = loss(clips, y[rows], step)
            for parameter, gradient in zip(
                learned, torch.autograd.grad(found, learned, allow_unused=True), strict=True
            ):
                parameter.grad = gradient
            optimiser.step()
            rates.step()
            step += 1
        if not len(held):
            at = epoch
            continue
        now = held_out()
        if not np.isfinite(now):
            raise DivergedError(f"training on clips diverged in epoch {epoch}; lower max_lr", epoch)
        if now < best:
            best, at, weights = now, epoch, copy.deepcopy(network.state_dict())
        elif epoch - at >= settings.patience:
            break
    if len(held):
        network.load_state_dict(weights)
    return Fitted(epoch, at, best)


def fit_once(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: config.Fit, seed: int
) -> tuple[Fitted, float]:
    """`fit`, unless this process has lately done just that: then the network gets what came of it.

    Models that differ in what follows alone share their pre-training so.

    Returns:
        How it went, and the seconds that were spared.
    """
    start = {"x": x, "y": y} | {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    facts = f"{network} {settings.model_dump_json()} {seed}"
    key = digest({name: tensor.cpu().contiguous() for name, tensor in start.items()}, facts)
    if key in _remembered:
        _remembered.move_to_end(key)
        weights, fitted, seconds = _remembered[key]
        network.load_state_dict(weights)
        return fitted, seconds
    began = time.perf_counter()
    fitted = fit(network, x, y, settings, seed)
    _remembered[key] = copy.deepcopy(network.state_dict()), fitted, time.perf_counter() - began
    if len(_remembered) > REMEMBERED:
        _remembered.popitem(last=False)
    return fitted, 0.0


def trained(network: nn.Module, layers: str) -> list[nn.Parameter]:
    """The parameters that are trained: all, or those of linear layers."""
    if layers == "all":
        return list(network.parameters())
    return [
        parameter for module in network.modules() if isinstance(module, nn.Linear) for parameter in module.parameters()
    ]


def batches(order: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """Rows, so many at a time; a last one alone is left out, since batch normalisation needs two."""
    return tuple(rows for rows in torch.split(order, size) if len(rows) > 1 or len(order) == 1)


def augmented(x: torch.Tensor, settings: config.Fit, rng: torch.Generator) -> torch.Tensor:
    """Clips ``(clips, coefficients, frames)``, each shifted in time, with noise, and masked; what comes in is 0, as padding is."""
    if settings.shift:
        by = torch.randint(-settings.shift, settings.shift + 1, (len(x), 1), generator=rng)
        place = torch.arange(x.shape[2]) + by
        inside = (place >= 0) & (place < x.shape[2])
        index = place.clamp(0, x.shape[2] - 1)[:, None].expand(-1, x.shape[1], -1)
        x = torch.where(inside[:, None].to(x.device), x.gather(2, index.to(x.device)), 0)
    if settings.noise:
        x = x + settings.noise * torch.randn(x.shape, generator=rng).to(x)
    for most, size, where in (
        (settings.mask_bands, x.shape[1], (..., None)),
        (settings.mask_frames, x.shape[2], (slice(None), None)),
    ):
        if most:
            x = torch.where(stretches(len(x), size, min(most, size), rng)[where].to(x.device), 0, x)
    return x


def stretches(clips: int, size: int, most: int, rng: torch.Generator) -> torch.Tensor:
    """For each clip a random stretch of places, 0 to ``most`` long: ``(clips, size)``, true inside."""
    length = torch.randint(0, most + 1, (clips, 1), generator=rng)
    start = (torch.rand(clips, 1, generator=rng) * (size - length + 1)).long()
    place = torch.arange(size)
    return (place >= start) & (place < start + length)


@contextmanager
def keeping_head(network: nn.Module) -> Iterator[nn.Module]:
    """The network's last layer, which is put back at the end, whatever stood in for it meanwhile."""
    head = network.get_submodule("head")
    try:
        yield head
    finally:
        network.head = head


def linear_head(network: nn.Module, wanted: str) -> nn.Linear:
    """The network's last layer.

    Raises:
        UserError: naming what wants it, if it is not linear.
    """
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Linear):
        raise UserError(f"head: {wanted} needs a network with a linear head")
    return head


def redraw(network: nn.Module, seed: int) -> None:
    """Gives the head new weights, as PyTorch draws a linear layer's.

    Raises:
        UserError: if it is no linear layer.
    """
    with seeded(seed):
        linear_head(network, "fresh").reset_parameters()


def set_prototypes(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Makes the head answer with −‖e − c‖² up to what all classes share: weight 2c, bias −‖c‖², c the mean embedding of a class.

    A class without clips keeps what it had.

    Raises:
        UserError: if the network's head is no linear layer.
    """
    head = linear_head(network, "prototypes")
    with keeping_head(network), torch.no_grad():
        network.head = nn.Identity()
        embedded = network(x)
        for label in sorted(set(y.tolist())):
            prototype = embedded[y == label].mean(dim=0)
            head.weight[label] = 2 * prototype
            head.bias[label] = -prototype.square().sum()


def hold_out(y: np.ndarray, share: float, seed: int, speakers: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, each class by its share; by speakers where that leaves every class on both sides.

    A class of one clip is trained on and not held out; where all are, nothing is held out.
    """
    classes, counts = np.unique(y, return_counts=True)
    if not share:
        return np.arange(len(y)), np.arange(0)
    if counts.max() < 2:
        say_once("one clip per class leaves none to hold out: networks are tuned on all clips, for all of their epochs")
    for kept, held in by_group(y, share, speakers, seed) if len(speakers) and counts.min() > 1 else ():
        if set(y[kept]) == set(y[held]) == set(classes):
            return kept, held
    return by_class(y, share, seed)


def seed_of(*tensors: torch.Tensor) -> int:
    """A seed that depends on nothing but what the tensors hold."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), value)
    return value
