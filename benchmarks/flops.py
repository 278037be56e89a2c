"""The work of a meta-iteration in floating-point operations, counted by what must be computed, not by who computes it.

The unit is the gradient of the loss on a batch: PyTorch's flop counter over one forward and one backward pass of the plain
network (matrix products and convolutions, a multiplication and an addition each counted as one; the features themselves
get no gradient). Per task, with k inner steps, a support gradient S and a query gradient Q:

- FOMAML k·S + Q; Reptile k·S; Reg-MAML k·S + 2Q;
- MAML and Meta-SGD k·(S + 2S) + Q: each inner step's derivative is one Hessian-vector product, twice the cost of a
  gradient (Pearlmutter 1994);
- ANIL: S and Q once for the body, and MAML's count for the head.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import networks
from benchmarks.workloads import Method, Workload


def gradient(workload: Workload, clips: int) -> int:
    """Operations of one loss gradient on ``clips`` clips."""
    if workload.model == "metaser-lstm":
        return lstm_gradient(*workload.input_shape, workload.outputs, clips)
    with torch.device("meta"):  # shapes are enough: nothing is computed
        network = networks.build(workload, seed=0)
        x, y = torch.zeros(clips, *workload.input_shape), torch.zeros(clips, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(network(x), y).backward()
    return int(counter.get_total_flops())


def lstm_gradient(coefficients: int, frames: int, outputs: int, clips: int, width: int = 128) -> int:
    """The same for MetaSER's network in closed form: PyTorch's counter does not see inside an LSTM.

    A layer multiplies its input and its last state by four gates' weights in every frame; backward, the weights' gradients
    cost the same, and so do those of the states and, above the first layer, of the input.
    """
    gates = 2 * clips * frames * 4 * width
    first = gates * (2 * (coefficients + width) + width)
    second = gates * 3 * (width + width)
    return first + second + linear_gradient(width, width, clips) + linear_gradient(width, outputs, clips)


def linear_gradient(inputs: int, outputs: int, clips: int) -> int:
    """A linear layer's forward product, and backward one for the weights and one for the input."""
    return 3 * 2 * clips * inputs * outputs


def meta_iteration(workload: Workload, method: Method) -> int:
    """Operations of one meta-iteration."""
    support, query, steps = gradient(workload, workload.support), gradient(workload, workload.query), method.steps
    if method.algorithm == "anil":
        with torch.device("meta"):
            width = networks.build(workload, seed=0).get_parameter("classifier.weight").shape[1]
        head = linear_gradient(width, workload.outputs, workload.support)
        return workload.meta_batch * (support - head + 3 * steps * head + query)
    task = {
        "fomaml": steps * support + query,
        "reptile": steps * support,
        "regmaml": steps * support + 2 * query,
        "maml": 3 * steps * support + query,
        "metasgd": 3 * steps * support + query,
    }[method.algorithm]
    return workload.meta_batch * task
