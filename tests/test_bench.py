"""The benchmark: its contenders train alike, its work and ratios are counted right, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cost, flops, networks, ours, reference, run, stock
from benchmarks.measure import ROUNDS
from benchmarks.summary import median_interval, summarise
from benchmarks.workloads import METHODS, WORKLOADS, Case, Method, features, quick
from metaser import models
from metaser.reporting.finished import read_results
from metaser.reporting.results import KEYS, SUMMARY
from metaser.runtime.errors import UserError
from support.commands import start
from support.limit import LIMIT, until
from support.tasks import toy_task

SMALL = {name: quick(workload) for name, workload in WORKLOADS.items()}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_contenders_train_on_tasks_of_the_same_shape(name: str) -> None:
    workload = SMALL[name]
    cell = Case(workload, METHODS["fomaml"])
    task = ours.tasks(workload, seed=0).task(1, 0)
    loop = reference.Loop(cell)
    for batch in (
        (task.support_x, task.support_y, task.query_x, task.query_y),
        stock.Tasks(workload, torch.from_numpy(features(workload, seed=0)))(),
        [tensor for loader in loop.loaders(workload) for tensor in next(iter(loader))],
    ):
        support_x, support_y, query_x, query_y = batch
        assert support_x.shape == (workload.support, *workload.input_shape)
        assert query_x.shape == (workload.query, *workload.input_shape)
        assert support_x.dtype == query_x.dtype == torch.float32
        assert Counter(support_y.tolist()) == dict.fromkeys(range(workload.ways), workload.shots)
        assert Counter(query_y.tolist()) == dict.fromkeys(range(workload.outputs), workload.queries)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_contenders_train_networks_of_the_same_size(name: str) -> None:
    workload = WORKLOADS[name]
    plain = networks.build(workload, seed=0)
    mine = models.build(workload.model, workload.input_shape, workload.outputs, seed=0)
    sizes = [sorted(tuple(p.shape) for p in network.parameters()) for network in (plain, mine)]
    assert sizes[0] == sizes[1]
    if name == "mnist-cnn":
        assert sum(p.numel() for p in plain.parameters()) == 1_544_132


@pytest.mark.quick
def test_the_work_of_an_lstm_is_that_of_one_written_with_matrix_products() -> None:
    coefficients, frames, outputs, clips, width = 3, 4, 5, 2, 7

    def layer(x: torch.Tensor) -> torch.Tensor:
        """The gates' products of every frame; what is between them is no matrix product."""
        w, u = torch.ones(4 * width, x.shape[2], requires_grad=True), torch.ones(4 * width, width, requires_grad=True)
        state, states = torch.zeros(clips, width, requires_grad=True), []
        for frame in range(frames):
            state = (x[:, frame] @ w.T + state @ u.T)[:, :width].tanh()
            states.append(state)
        return torch.stack(states, dim=1)

    with FlopCounterMode(display=False) as counter:
        last = layer(layer(torch.ones(clips, frames, coefficients)))[:, -1]
        for size in (width, outputs):
            last = last @ torch.ones(last.shape[1], size, requires_grad=True)
        last.sum().backward()
    assert flops.lstm_gradient(coefficients, frames, outputs, clips, width) == counter.get_total_flops()


def test_the_work_of_other_networks_and_of_every_algorithm_has_its_closed_form() -> None:
    fc, conv = SMALL["omniglot-fc"], SMALL["fmaml-conv"]
    # Three products per layer (forward, for the weights, for the input), two in the first layer.
    layers = 2 * 784 * 256 + 3 * (256 * 128 + 128 * 64 + 64 * 64 + 64 * 5)
    assert flops.gradient(fc, clips=3) == 2 * 3 * layers
    sides = (8, 4, 2, 1)  # a 16×16 input, stride 2
    kernels = 2 * sides[0] ** 2 * 9 * 64 + 3 * sum(side**2 for side in sides[1:]) * 9 * 64 * 64
    assert flops.gradient(conv, clips=3) == 2 * 3 * (kernels + 3 * 64 * 7)

    support, query, head = 2 * 10 * layers, 2 * 10 * layers, 2 * 10 * 3 * 64 * 5
    wanted = {"fomaml": support + query, "maml": 3 * support + query, "metasgd": 3 * support + query,
              "reptile": 5 * support, "reptile-1": support, "regmaml": support + 2 * query,
              "anil": support + 2 * head + query}  # fmt: skip
    assert fc.support == fc.query == 10
    assert {name: flops.meta_iteration(fc, method) for name, method in METHODS.items()} == {
        name: 2 * task for name, task in wanted.items()
    }


class Tiny(nn.Module):
    """A smooth network in float64 with the two parts that ANIL tells apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh())
        self.classifier = nn.Linear(6, 3)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


def definition(network: nn.Module, batch: stock.Batch, algorithm: str, steps: int, lr: float) -> list[torch.Tensor]:
    """The meta-gradient of one task, from the papers' equations with `torch.func.functional_call`."""
    support_x, support_y, query_x, query_y = batch
    start = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    rates = {name: torch.full_like(p, lr).requires_grad_() for name, p in start.items()}

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(network, weights, x), y)

    end = start
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(end, support_x, support_y), list(end.values()), create_graph=True)
        frozen = "features." if algorithm == "anil" else "none"
        end = {name: p if name.startswith(frozen) else p - rates[name] * one
               for (name, p), one in zip(end.items(), gradients, strict=True)}  # fmt: skip
    outer = loss(end, query_x, query_y)
    if algorithm == "reptile":
        return [(start[name] - end[name]) / lr for name in start]
    if algorithm in ("fomaml", "regmaml"):
        after = torch.autograd.grad(outer, list(end.values()))
        before = torch.autograd.grad(loss(start, query_x, query_y), list(start.values()))
        return [2 * a - b for a, b in zip(after, before, strict=True)] if algorithm == "regmaml" else list(after)
    learned = [*start.values(), *rates.values()] if algorithm == "metasgd" else list(start.values())
    return list(torch.autograd.grad(outer, learned))


def batches() -> list[stock.Batch]:
    tasks = [toy_task(seed=seed) for seed in (0, 1)]
    return [(task.support_x, task.support_y, task.query_x, task.query_y) for task in tasks]


def assert_mean(found: list[torch.Tensor | None], algorithm: str, steps: int) -> None:
    wanted = [definition(Tiny(), batch, algorithm, steps, 0.3) for batch in batches()]
    for gradient, first, second in zip(found, *wanted, strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, ((first + second) / 2).detach(), rtol=1e-10, atol=1e-13)


@pytest.mark.quick
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("algorithm", sorted({method.algorithm for method in METHODS.values()}))
def test_learn2learns_loop_computes_the_algorithm(algorithm: str, steps: int) -> None:
    loop = stock.Loop(Tiny(), iter(batches()).__next__, Method("m", algorithm, steps), inner_lr=0.3, meta_batch=2)
    loop.gradient()
    assert_mean([parameter.grad for parameter in loop.parameters], algorithm, steps)


@pytest.mark.parametrize("algorithm", reference.ALGORITHMS)
def test_the_references_loop_computes_the_algorithm(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Case(replace(SMALL["lstm"], inner_lr=0.3), Method("m", algorithm, 3))
    loop, draw = reference.Loop(cell), iter(batches())
    loop.network = Tiny()
    monkeypatch.setattr(loop, "loaders", lambda _: (lambda b: ([b[:2]], [b[2:]]))(next(draw)))
    loop.gradient()
    assert_mean([parameter.grad for parameter in loop.network.parameters()], algorithm, 3)


@pytest.mark.parametrize("algorithm", ["maml", "metasgd"])
@pytest.mark.parametrize("name", ["omniglot-cnn", "lstm"])
def test_stock_learn2learn_gives_every_weight_and_rate_a_gradient(name: str, algorithm: str) -> None:
    """Its MetaSGD leaves its own OmniglotCNN as it was when the network is taken as it comes."""
    loop = stock.prepare(Case(SMALL[name], METHODS[algorithm]))
    loop()
    assert all(parameter.grad is not None for parameter in loop.parameters)  # type: ignore[attr-defined]


def turns(
    name: str, algorithm: str, ms: dict[str, list[float]], gflops: dict[str, list[float]]
) -> list[dict[str, object]]:
    keys = {**dict.fromkeys(KEYS, ""), "variant": name, "algorithm": algorithm, "shots": 5}
    common = [{**keys, "round": number, "place": 0} for number in (1, 2, 3)]
    rows = [{**common[i], "contender": who, "iterations": 4, "seconds": 4 * value / 1000, "gflops": 100 / value}
            for who, values in ms.items() for i, value in enumerate(values)]  # fmt: skip
    return rows + [{**common[i], "contender": who, "iterations": None, "seconds": None, "gflops": value}
                   for who, values in gflops.items() for i, value in enumerate(values)]  # fmt: skip


@pytest.mark.quick
def test_ratios_are_taken_within_a_round() -> None:
    """The machine is ten times slower in round 2; the ratios are not."""
    rows = [*turns("lstm", "fomaml", {"metaser": [10, 100, 12], "learn2learn": [20, 210, 36], "reference": [30, 300, 36]},
                   {"gemm": [40, 4, 50]}),
            *turns("lstm", "reptile-1", {"metaser": [5, 6, 7], "learn2learn": [10, 10, 10]}, {"gemm": [40, 40, 40]})]  # fmt: skip
    rounds = pd.DataFrame(rows)[list(ROUNDS)].astype({"iterations": "Int64"})
    summary = summarise(
        rounds, {("lstm", "fomaml", "metaser"): 99.0, ("lstm", "fomaml", "learn2learn"): None}, WORKLOADS
    )
    assert tuple(summary.columns) == SUMMARY
    found = summary.set_index(["variant", "algorithm", "metric"])["mean"].to_dict()
    wanted = {
        "speedup_vs_learn2learn": 2.1, "speedup_vs_reference": 3.0, "ms_per_meta_iteration": 12.0,
        "seconds_per_100_epochs": 1.2, "learn2learn_seconds_per_100_epochs": 3.6, "reference_seconds_per_100_epochs": 3.6,
        "gflops": 100 / 12, "share_of_gemm_peak": 0.25, "peak_memory_mib": 99.0, "seconds_relative_to_fomaml": 1.0,
    }  # fmt: skip
    for metric, value in wanted.items():
        assert found["lstm", "fomaml", metric] == pytest.approx(value), metric
    assert found["lstm", "reptile-1", "seconds_relative_to_fomaml"] == pytest.approx(0.5)
    assert found["machine", "gemm", "gflops"] == 40
    assert not {metric for *_, metric in found if "onednn" in metric or metric == "learn2learn_peak_memory_mib"}
    assert ("lstm", "reptile-1", "speedup_vs_reference") not in found
    published = summary[summary["metric"] == "seconds_relative_to_fomaml"].set_index("algorithm")["paper"]
    assert published.round(2).to_dict() == {"fomaml": 1.0, "reptile-1": 0.73}
    assert summary.loc[summary["metric"] == "speedup_vs_reference", ["n_tasks", "n_seeds"]].to_numpy().tolist() == [
        [8, 3]
    ]


@pytest.mark.quick
def test_the_interval_of_a_median() -> None:
    assert median_interval([3.0, 1.0, 2.0])[0] == 2.0
    assert np.isnan(median_interval([3.0])[1:]).all()
    assert median_interval([2.0] * 7) == (2.0, 2.0, 2.0)
    values = np.random.default_rng(1).normal(size=400)
    median, low, high = median_interval(values)
    assert low < median < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(np.pi / 2 / 400), rel=0.3)


@pytest.mark.quick
def test_what_the_user_mistypes_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--workload: unknown name 'lstn'; did you mean 'lstm'"):
        run.bench(["lstn"], out=tmp_path)
    with pytest.raises(UserError, match="--algorithm: unknown name 'fomal'; did you mean 'fomaml'"):
        run.bench(["lstm"], ["fomal"], out=tmp_path)
    with pytest.raises(UserError, match="--rounds: 0"):
        run.bench(rounds=0, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run.bench(["lstm"], ["fomaml"], tiny=True, out=tmp_path_factory.mktemp("results"))


@pytest.mark.slow
def test_a_quick_run_writes_everything(finished: Path) -> None:
    assert finished.name.endswith("-cores-quick")
    assert not [entry for entry in finished.parent.iterdir() if entry != finished]
    names = ["cost.csv", "cost.png", "report_times.png", "rounds.csv", "run.json", "summary.csv", "table.md"]
    assert sorted(entry.name for entry in finished.iterdir()) == names

    summary = read_results(finished / "summary.csv")
    assert tuple(summary.columns) == SUMMARY
    assert set(summary["data"]) == {"synthetic"}
    wanted = {"speedup_vs_learn2learn", "speedup_vs_reference", "share_of_gemm_peak", "seconds_per_100_epochs", "gflops",
              "ms_per_meta_iteration", "learn2learn_seconds_per_100_epochs", "reference_seconds_per_100_epochs"}  # fmt: skip
    assert wanted <= set(summary["metric"])
    assert (summary["mean"] > 0).all()

    rounds = read_results(finished / "rounds.csv")
    assert tuple(rounds.columns) == ROUNDS
    turns = rounds[rounds["contender"].isin(["learn2learn", "reference", "metaser"])]
    order = [list(turn.sort_values("place")["contender"]) for _, turn in turns.groupby("round")]
    assert len(order) == 2
    assert order[0] == order[1][::-1]

    points = read_results(finished / "cost.csv")
    assert tuple(points.columns) == cost.COST
    assert set(points["varied"]) == {"tasks", "shots", "inner steps"}
    facts = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    assert facts["conditions"]["threads"]["metaser"] == 1
    assert facts["conditions"]["quick"]
    assert "its times mean nothing" in (finished / "table.md").read_text(encoding="utf-8")


def test_a_contender_that_dies_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "quick", lambda workload: replace(quick(workload), ways=9))
    with pytest.raises(UserError) as refusal:
        run.bench(["lstm"], ["maml"], tiny=True, out=tmp_path / "results")
    message = str(refusal.value)
    assert message.startswith("bench: the process of ")
    assert " ended during lstm, maml (exit code 1): " in message
    assert "\n" not in message
    assert not (tmp_path / "results").exists()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int]) -> bool:
    return until(lambda: not any(alive(pid) for pid in pids))


@contextmanager
def started(code: str, children: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A Python process with that code, once it has that many processes of its own; and their numbers."""
    with start([sys.executable, "-c", code], start_new_session=True) as parent:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        try:
            assert until(lambda: len(listed.read_text(encoding="ascii").split()) == children)
            yield parent, [int(pid) for pid in listed.read_text(encoding="ascii").split()]
        finally:
            parent.kill()


PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")


@PROC
def test_ctrl_c_leaves_no_process_and_no_results(tmp_path: Path) -> None:
    out = tmp_path / "results"
    code = f"from benchmarks import run; run.bench(['lstm'], ['maml'], out=run.Path({str(out)!r}))"
    with started(code, 3) as (parent, pids):
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        parent.communicate(timeout=LIMIT)
        assert parent.returncode != 0
        assert gone(pids)
    assert not out.exists() or not list(out.iterdir())


@PROC
def test_a_process_ends_with_a_parent_that_is_killed() -> None:
    code = "from benchmarks.process import Process; import time; kept = Process('peak', 'a test'); time.sleep(999)"
    with started(code, 1) as (parent, pids):
        parent.kill()
        assert gone([parent.pid, *pids])
