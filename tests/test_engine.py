"""The engine: every layer and every layout against PyTorch's and learn2learn's own, in float64; and the inexact options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import learn2learn
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from metaser import algorithms, config, engine, models
from metaser.algorithms import ALGORITHMS, Learner
from metaser.engine import layers
from metaser.engine.layers import LSTM, BatchNorm, Conv2d
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers
from metaser.tasks import Task
from support.commands import metaser, small
from support.networks import difference, flat, meta, network, settings_of
from support.tasks import toy_task

pytestmark = pytest.mark.arithmetic

SHAPES = {"fmaml-conv": (20, 18), "metaser-lstm": (4, 6), "omniglot-fc": (5, 4), "omniglot-cnn": (12, 12)}
EXACT = [name for name in ALGORITHMS if name != "fmaml"]  # F-MAML is MAML or FOMAML, on tasks with fixed classes


def net_for(name: str, seed: int = 1) -> nn.Module:
    """One of the papers' networks in float64, its normalisations away from where they start."""
    net = models.build(name, SHAPES[name], 3, seed).double()
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, BatchNorm):
            for parameter in module.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name == "omniglot-fc" and isinstance(module, nn.Linear):
            module.weight.data *= 20  # away from the nearly linear start, so that second derivatives count
    return net


def tasks_for(name: str, count: int = 3) -> list[Task]:
    return [toy_task(shape=SHAPES[name], shots=3, seed=seed) for seed in range(count)]


def learner_for(algorithm: str, net: nn.Module, layout: str = "auto", **changes: object) -> Learner:
    options = config.Engine.model_validate({"layout": layout})
    ratio = {"lambda_ratio": 0.7} if algorithm == "regmaml" else {}
    return algorithms.build(settings_of(algorithm, **ratio, **changes), net, options)


# --- layers ---


def product(
    function: Callable[[torch.Tensor], torch.Tensor], parameters: Iterable[nn.Parameter], x: torch.Tensor
) -> list[torch.Tensor]:
    """Gradient and Hessian-vector product of a bent sum of ``function(x)`` with respect to the parameters and x."""
    x = x.clone().requires_grad_()
    wanted = [*parameters, x]
    y = function(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=x.dtype).view_as(y)
    gradients = torch.autograd.grad((weights * y.tanh() + y.square()).sum(), wanted, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in wanted]
    along = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    return [*(g.detach() for g in gradients), *torch.autograd.grad(along, wanted)]


def pairs() -> list[tuple[str, nn.Module, nn.Module, torch.Tensor]]:
    """(name, ours, PyTorch's with the same parameters, input)."""
    torch.manual_seed(0)
    conv, conv5 = Conv2d(3, 4, 3, stride=2, padding=1).double(), Conv2d(2, 3, 5, padding=2).double()
    norm, lstm = BatchNorm(3).double(), LSTM(3, 5, num_layers=2).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.5, -0.7]))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    theirs = [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(2, 3, 5, padding=2),
              nn.BatchNorm2d(3, track_running_stats=False), nn.LSTM(3, 5, num_layers=2, batch_first=True)]  # fmt: skip
    ours = [conv, conv5, norm, lstm]
    inputs = [(5, 3, 7, 8), (2, 2, 6, 6), (4, 3, 5, 6), (4, 7, 3)]
    found = []
    for mine, other, shape in zip(ours, theirs, inputs, strict=True):
        other.double().load_state_dict(mine.state_dict())
        found.append((type(mine).__name__, mine, other, torch.randn(shape, dtype=torch.float64)))
    return found


@pytest.mark.quick
@pytest.mark.parametrize("route", ["native", "twice", "plain"])
@pytest.mark.parametrize(
    ("name", "ours", "theirs", "x"), pairs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_layers_have_pytorchs_first_and_second_derivatives(
    route: layers.Route, name: str, ours: nn.Module, theirs: nn.Module, x: torch.Tensor
) -> None:
    layers.set_route(ours, route)
    wanted = product(lambda x: theirs(x)[0] if isinstance(theirs, nn.LSTM) else theirs(x), theirs.parameters(), x)
    for mine, other in zip(product(ours, ours.parameters(), x), wanted, strict=True):
        assert difference(mine, other) < 1e-12


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "x"), pairs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_layers_derivatives_agree_with_finite_differences(
    name: str, ours: nn.Module, theirs: nn.Module, x: torch.Tensor
) -> None:
    layers.set_route(ours, "twice")
    x = x[:2, :, :4] if isinstance(ours, LSTM) else x[:3, :, :4, :3]
    network = engine.base.Network(ours)
    leaves = [p.detach().clone().requires_grad_() for p in ours.parameters()]

    def call(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return network(weights, x, "twice")

    arguments = (x.clone().requires_grad_(), *leaves)
    assert gradcheck(call, arguments, fast_mode=True)
    assert gradgradcheck(call, arguments, fast_mode=True)


@given(frames=st.integers(1, 5), clips=st.integers(1, 4), inputs=st.integers(1, 3), hidden=st.integers(1, 4))
def test_an_lstm_of_any_size_has_pytorchs_second_derivatives(frames: int, clips: int, inputs: int, hidden: int) -> None:
    torch.manual_seed(frames + 10 * clips)
    ours, theirs = LSTM(inputs, hidden, 2).double(), nn.LSTM(inputs, hidden, 2, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    layers.set_route(ours, "twice")
    x = torch.randn(clips, frames, inputs, dtype=torch.float64)
    wanted = product(lambda x: theirs(x)[0], theirs.parameters(), x)
    for mine, other in zip(product(ours, ours.parameters(), x), wanted, strict=True):
        assert torch.allclose(mine, other, rtol=1e-10, atol=1e-12)


def test_second_order_of_the_lstm_in_float32_agrees_with_exact_float64() -> None:
    """MetaSER's own sizes: 20 coefficients, 120 frames, 20 support clips."""
    task = toy_task(ways=4, shots=5, queries=10, shape=(20, 120))
    single = Task(**{**vars(task), "support_x": task.support_x.float(), "query_x": task.query_x.float()})
    task = Task(**{**vars(task), "support_x": single.support_x.double(), "query_x": single.query_x.double()})
    net = models.build("metaser-lstm", (20, 120), 4, 0)
    ours = flat(meta(learner_for("maml", net, steps=1), single).gradients).double()
    stock = learn2learn.algorithms.MAML(models.build("metaser-lstm", (20, 120), 4, 0).double(), lr=0.05)
    clone = stock.clone()
    clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y))
    F.cross_entropy(clone(task.query_x), task.query_y).backward()
    assert difference(ours, flat(p.grad for p in stock.parameters())) < 1e-6


def test_the_gradient_of_a_vmapped_inner_loop_is_wrong_with_the_fused_normalisation_and_right_with_ours() -> None:
    """The reason for the plain route. If the last assertion fails, PyTorch has been mended."""
    torch.manual_seed(0)
    ours = nn.Sequential(Conv2d(1, 4, 3, padding=1), BatchNorm(4), nn.Flatten(), nn.Linear(64, 3)).double()
    theirs = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(),
                           nn.Linear(64, 3)).double()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    layers.set_route(ours, "plain")
    x, y = torch.randn(2, 3, 6, 1, 4, 4, dtype=torch.float64), torch.randint(0, 3, (2, 3, 6))

    def loss(
        net: nn.Module, weights: dict[str, torch.Tensor], index: int, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(net, weights, x[index]), y[index])

    def gradient(net: nn.Module) -> torch.Tensor:
        def task(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            gradients = torch.func.grad(lambda w: loss(net, w, 0, x, y))(weights)
            return loss(net, {name: w - 0.1 * gradients[name] for name, w in weights.items()}, 1, x, y)

        def total(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.vmap(task, in_dims=(None, 1, 1))(weights, x, y).sum()

        return flat(torch.func.grad(total)({name: p.detach() for name, p in net.named_parameters()}).values())

    tasks = [Task(x[0, n], y[0, n], x[1, n], y[1, n], ("a", "b", "c"), 0, "", y[0, n], y[1, n]) for n in range(3)]
    wanted = stock_gradient("maml", theirs, tasks, steps=1, lr=0.1)
    assert difference(gradient(ours), wanted) < 1e-12
    assert difference(gradient(theirs), wanted) > 1e-4


# --- layouts ---


def stock_gradient(algorithm: str, net: nn.Module, tasks: list[Task], steps: int, lr: float) -> torch.Tensor:
    """learn2learn's own way, task after task; the sum over the tasks."""
    if algorithm == "metasgd":
        stock: nn.Module = learn2learn.algorithms.MetaSGD(net, lr=lr)
    else:
        stock = learn2learn.algorithms.MAML(net, lr=lr, first_order=algorithm == "fomaml")
    stock.zero_grad()
    for task in tasks:
        clone = stock.clone()  # type: ignore[operator]
        for _ in range(steps):
            clone.adapt(F.cross_entropy(clone(task.support_x), task.support_y))
        F.cross_entropy(clone(task.query_x), task.query_y).backward()
    rates = stock.lrs if algorithm == "metasgd" else []
    return flat([*(p.grad for p in net.parameters()), *(rate.grad for rate in rates)])


LAYOUTS = [(name, layout) for name in SHAPES for layout in ("task", "stacked")] + [("omniglot-fc", "low-rank")]


@pytest.mark.slow  # test_layouts.py has it for narrow networks
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "metasgd"])
@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_every_layout_gives_stock_learn2learns_meta_gradient(
    name: str, layout: str, algorithm: str, steps: int
) -> None:
    if (algorithm, layout) == ("metasgd", "low-rank"):
        pytest.skip("one rate per weight has no low rank; refused, see below")
    net, tasks = net_for(name), tasks_for(name)
    learner = learner_for(algorithm, net, layout, steps=steps)
    groups = [tasks[:1], tasks[1:2], tasks[2:]] if layout == "task" else [tasks]
    ours = sum(flat(meta(learner, *group).gradients) for group in groups)
    assert difference(ours, stock_gradient(algorithm, net, tasks, steps, 0.05)) < 1e-12


# --- finite differences ---


def objective(algorithm: str, learner: Learner, task: Task) -> Callable[[list[torch.Tensor]], float]:
    """What the algorithm's meta-gradient is the gradient of, as a function of the weights (and, for Meta-SGD, rates)."""
    net, lr, steps = learner.model, 0.05, 2
    names = [name for name, _ in net.named_parameters()]

    def loss(weights: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(net, dict(zip(names, weights, strict=True)), x), y)

    def inner(weights: list[torch.Tensor], rates: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        path = [weights]
        for _ in range(steps):
            leaves = [w.detach().requires_grad_() for w in path[-1]]
            gradients = torch.autograd.grad(loss(leaves, task.support_x, task.support_y), leaves)
            moved = [w - r * g if algorithm != "anil" or name.startswith("head.") else w
                     for name, w, r, g in zip(names, leaves, rates, gradients, strict=True)]  # fmt: skip
            path.append([w.detach() for w in moved])
        return path

    start = [p.detach() for p in net.parameters()]
    fixed = inner(start, [torch.tensor(lr, dtype=torch.float64)] * len(start))

    def value(weights: list[torch.Tensor]) -> float:
        own, rates = (
            weights[: len(names)],
            weights[len(names) :] or [torch.tensor(lr, dtype=torch.float64)] * len(names),
        )
        moves = [w - s for w, s in zip(own, start, strict=True)]
        if algorithm in ("maml", "anil", "metasgd"):
            return loss(inner(own, rates)[-1], task.query_x, task.query_y).item()
        shifted = [[p + m for p, m in zip(place, moves, strict=True)] for place in fixed]
        if algorithm == "reptile":  # the support losses where the inner loop went, that path held
            return sum(loss(place, task.support_x, task.support_y).item() for place in shifted[:-1])
        after = loss(shifted[-1], task.query_x, task.query_y).item()  # the path held: what "first order" means
        if algorithm == "fomaml":
            return after
        return 1.7 * after - 0.7 * loss(shifted[0], task.query_x, task.query_y).item()

    return value


def without_kinks(net: nn.Module) -> nn.Module:
    """The network with tanh for ReLU: where a ReLU turns there is no derivative, and hundreds of them sit near zero."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Tanh())
    return net


@pytest.mark.parametrize("algorithm", EXACT)
@pytest.mark.parametrize("name", SHAPES)
def test_every_meta_gradient_is_the_derivative_by_finite_differences(name: str, algorithm: str) -> None:
    net, (task,) = net_for(name), tasks_for(name, 1)
    if not name.endswith("fc"):  # those few hold still, and only ReLUs go the low-rank way
        net = without_kinks(net)
    learner = learner_for(algorithm, net)
    gradient = flat(meta(learner, task).gradients)
    value, start = objective(algorithm, learner, task), [p.detach() for p in learner.parameters()]

    def at(direction: torch.Tensor, step: float) -> float:
        pieces = direction.split([w.numel() for w in start])
        return value([w + step * d.view_as(w) for w, d in zip(start, pieces, strict=True)])

    # Along the gradient itself the derivative is largest, and rounding matters least.
    direction = gradient / gradient.norm()
    step = 1e-6 if name.endswith("fc") else 3e-4 / float(gradient.norm())
    derivative = (
        8 * (at(direction, step) - at(direction, -step)) - (at(direction, 2 * step) - at(direction, -2 * step))
    ) / (12 * step)
    assert float(gradient.norm()) == pytest.approx(derivative, rel=1e-8)


# --- threads, options ---


@pytest.mark.parametrize("algorithm", EXACT)
@pytest.mark.parametrize("name", SHAPES)
def test_threads_change_no_bit(name: str, algorithm: str) -> None:
    net = net_for(name).float()
    learner = learner_for(algorithm, net)
    tasks = [toy_task(shape=SHAPES[name], shots=3, seed=seed, dtype=torch.float32) for seed in range(6)]
    size = learner.engine.group_size(len(tasks))
    groups = [tasks[first : first + size] for first in range(0, len(tasks), size)]
    before = flat(learner.parameters()).clone()
    with Workers(1) as one, Workers(3) as three:
        alone = one.map(lambda group: flat(meta(learner, *group).gradients), groups)
        for _ in range(3):
            for first, second in zip(
                alone, three.map(lambda g: flat(meta(learner, *g).gradients), groups), strict=True
            ):
                assert torch.equal(first, second)
    assert torch.equal(before, flat(learner.parameters()))


@pytest.mark.parametrize("steps", [1, 3])
def test_finite_difference_curvature_is_close_and_is_not_the_default(steps: int) -> None:
    net, (task,) = net_for("metaser-lstm"), tasks_for("metaser-lstm", 1)
    exact = flat(meta(learner_for("maml", net, steps=steps), task).gradients)
    options = config.Engine(curvature="finite-difference")
    near = flat(meta(algorithms.build(settings_of("maml", steps=steps), net, options), task).gradients)
    assert 0 < difference(near, exact) < 1e-8
    assert config.Engine() == config.Engine(curvature="exact", precision="float32")


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_bfloat16_is_near_and_is_not_the_default(kind: str) -> None:
    if kind == "lstm" and not engine.has_bfloat16_lstm("cpu"):
        pytest.skip("PyTorch has no LSTM in bfloat16 for this processor")
    task = toy_task(dtype=torch.float32)
    net = network(kind, task).float()
    exact = flat(meta(learner_for("fomaml", net), task).gradients)
    options = config.Engine(precision="bfloat16")
    near = flat(meta(algorithms.build(settings_of("fomaml"), net, options), task).gradients)
    assert near.dtype == torch.float32
    assert 1e-4 < difference(near, exact) < 5e-2


def test_bfloat16_is_there_or_refused_in_one_line(tmp_path: Path) -> None:
    """By the command, on this processor, whatever it has."""
    settings = ("engine.precision=bfloat16", "model.name=metaser-lstm", "data.targets=[x-dor]")
    result = metaser(*small(tmp_path, *settings), "--protocol", "strict")
    if engine.has_bfloat16_lstm("cpu"):
        assert result.returncode == 0, result.stderr
    else:
        assert "Traceback" not in result.stderr
        assert result.returncode
        assert "engine.precision: bfloat16" in result.stderr
        assert "use float32" in result.stderr


@pytest.mark.quick
def test_a_processor_without_an_lstm_in_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "has_bfloat16_lstm", lambda device: False)
    options = config.Engine(precision="bfloat16")
    says = rf"^engine\.precision: bfloat16, .*\({torch.backends.cpu.get_cpu_capability()}\), and MetaSERLSTM .*use float32$"
    with pytest.raises(UserError, match=says):
        algorithms.build(settings_of("fomaml"), net_for("metaser-lstm").float(), options)
    algorithms.build(settings_of("fomaml"), net_for("fmaml-conv").float(), options)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("algorithm", "name", "options", "says"),
    [
        ("maml", "fmaml-conv", {"curvature": "finite-difference"}, "kinks"),
        ("metasgd", "metaser-lstm", {"curvature": "finite-difference"}, "use exact"),
        ("maml", "metaser-lstm", {"curvature": "finite-difference", "layout": "stacked"}, "layout: task"),
        ("metasgd", "omniglot-fc", {"layout": "low-rank"}, "use task"),
        ("maml", "omniglot-cnn", {"layout": "low-rank"}, "use task"),
        ("maml", "omniglot-fc", {"layout": "low-rank", "precision": "bfloat16"}, "use task"),
    ],
)
def test_options_that_do_not_go_together_are_refused(algorithm: str, name: str, options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        algorithms.build(settings_of(algorithm), net_for(name), config.Engine(**options))
    assert "\n" not in str(error.value)


@pytest.mark.quick
def test_the_fastest_exact_layout_is_the_default() -> None:
    def chosen(algorithm: str, name: str, **options: str) -> type:
        return type(algorithms.build(settings_of(algorithm), net_for(name), config.Engine(**options)).engine)

    assert chosen("maml", "omniglot-fc") is engine.LowRankEngine
    assert chosen("metasgd", "omniglot-fc") is engine.TaskEngine
    assert chosen("maml", "omniglot-fc", precision="bfloat16") is engine.TaskEngine
    assert chosen("maml", "fmaml-conv") is engine.TaskEngine


@pytest.mark.quick
def test_a_network_of_any_kind_is_computed_at_given_weights_and_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.LSTM(3, 2)).double()
    network = engine.base.Network(net)
    x = torch.randn(5, 4, dtype=torch.float64)
    other = [p.detach() + 0.1 for p in net.parameters()]
    wanted, _ = torch.func.functional_call(net, dict(zip(dict(net.named_parameters()), other, strict=True)), x)
    assert torch.equal(network(other, x, "native")[0], wanted)
    for mine, before in zip(network.module.parameters(), net.parameters(), strict=True):
        assert torch.equal(mine, before)


@pytest.mark.quick
def test_shared_parameters_are_refused() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    with pytest.raises(ValueError, match="share"):
        engine.base.Network(nn.Sequential(first, second))


# --- the networks ---


@pytest.mark.quick
@pytest.mark.parametrize(("name", "count"), [("omniglot-fc", 247_621), ("omniglot-cnn", 112_261)])
def test_omniglots_networks_are_learn2learns(name: str, count: int) -> None:
    ours = models.build(name, (28, 28), 5, 0).double()
    vision = learn2learn.vision.models
    theirs = vision.OmniglotFC(784, 5) if name == "omniglot-fc" else vision.OmniglotCNN(5)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == count

    def owners(net: nn.Module) -> list[nn.Module]:
        kinds = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, BatchNorm)
        found = [module for module in net.modules() if isinstance(module, kinds)]
        return sorted(found, key=lambda module: isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | BatchNorm))

    theirs = theirs.double()
    for mine, other in zip(owners(ours), owners(theirs), strict=True):
        other.weight.data.copy_(mine.weight.data)  # type: ignore[union-attr, operator]
        other.bias.data.copy_(mine.bias.data)  # type: ignore[union-attr, operator]
    x = torch.rand(7, 28, 28, dtype=torch.float64)
    assert difference(ours(x), theirs(x.unsqueeze(1))) < 1e-12


def test_mnists_network_has_the_tutorials_size_and_shape() -> None:
    net = models.build("mnist-cnn", (28, 28), 10, 0)
    assert sum(p.numel() for p in net.parameters()) == 1_545_674
    assert net.head.in_features == 256
    assert net(torch.rand(3, 28, 28)).shape == (3, 10)
    x, y = torch.rand(1, 28, 28), torch.rand(1, 28, 28)
    alone = net(x)
    assert torch.allclose(net(torch.cat([x, y]))[:1], alone, atol=1e-5), "no statistics of the batch"
