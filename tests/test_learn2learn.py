"""Every algorithm is learn2learn's: its class, its clone(), its adapt(), its tasks, on every layout."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import learn2learn
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from metaser import algorithms, config, models
from metaser.algorithms import ALGORITHMS
from metaser.runtime.errors import UserError
from metaser.runtime.parallel import Workers
from metaser.tasks import SpeechTasks, Task, corpus_tasks
from metaser.training import learners, train
from support import REPOSITORY
from support.corpora import clip
from support.networks import difference, flat, network, settings_of, stream, task_for
from support.tasks import EMOTIONS, shape_of, tasks_of, utterances

#: Algorithm, network, layout: all that goes together.
CASES = [
    (name, kind, layout)
    for name in ALGORITHMS
    for kind, layout in (
        ("fmaml-conv", "learn2learn"), ("fmaml-conv", "task"), ("fmaml-conv", "stacked"), ("metaser-lstm", "task"),
        ("omniglot-fc", "low-rank"),
    )
    if (name, layout) != ("metasgd", "low-rank")
]  # fmt: skip


def case(name: str, kind: str, layout: str, **changes: Any) -> tuple[Any, Task]:
    """A learner in float64, and a task."""
    task = task_for("conv", fixed=2 if name == "fmaml" else 0)
    height, width = task.query_x.shape[1:]
    net = models.build(kind, (height, width), len(task.classes), seed=0).double()
    options = config.Engine.model_validate({"layout": layout})
    extra = {"lambda_ratio": 1.0} if name == "regmaml" else {}
    return algorithms.build(settings_of(name, **extra, **changes), net, options), task


def speech_tasks(**more: Any) -> SpeechTasks:
    return tasks_of(utterances(), shape_of(), **more)


def weights(learner: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in learner.module.named_parameters()}


def support_loss(learner: Any, task: Task) -> torch.Tensor:
    return F.cross_entropy(learner(task.support_x), task.support_y)


@pytest.mark.parametrize(("name", "kind", "layout"), CASES)
def test_an_algorithm_is_learn2learns_and_behaves_as_documented(name: str, kind: str, layout: str) -> None:
    learner, task = case(name, kind, layout)
    base = learn2learn.algorithms.MetaSGD if name == "metasgd" else learn2learn.algorithms.MAML
    assert isinstance(learner, base)
    assert isinstance(learner, nn.Module)

    before = weights(learner)
    assert torch.equal(learner(task.query_x), learner.module(task.query_x)), "forward is the module's"
    clone = learner.clone()
    assert type(clone) is type(learner)
    assert torch.allclose(clone(task.query_x), learner(task.query_x), atol=1e-12)

    for _ in range(2):
        clone.adapt(support_loss(clone, task))
    after = weights(clone)
    adapted = [one for one in before if learner.adapts(one)]
    assert all(not torch.equal(before[one], after[one]) for one in after if one in adapted and layout != "low-rank")
    assert difference(clone(task.query_x), learner(task.query_x)) > 1e-6, "adapted"
    assert all(torch.equal(weight, before[one]) for one, weight in weights(learner).items()), "the start is as it was"

    loss = F.cross_entropy(clone(task.query_x), task.query_y)
    loss.backward()
    grads = [weight.grad for weight in learner.parameters()]
    assert all(grad is not None for grad in grads[: len(before)]), "the start gets its gradient through the clone"

    twice = learner.clone().clone()
    twice.adapt(support_loss(twice, task))
    assert torch.isfinite(twice(task.query_x)).all()


@pytest.mark.parametrize(("name", "kind", "layout"), CASES)
def test_a_learner_is_pickled_copied_and_its_state_restored(name: str, kind: str, layout: str) -> None:
    learner, task = case(name, kind, layout)
    wanted = learner.predict(task)
    for other in (pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner)):
        assert torch.equal(other.predict(task), wanted)
        with torch.no_grad():
            next(iter(other.parameters())).add_(1)
        assert not torch.equal(other.predict(task), wanted)
        other.load_state_dict(learner.state_dict())
        assert torch.equal(other.predict(task), wanted)
    stock = learn2learn.algorithms.MAML(learner.model, lr=0.1)
    own = {key: value for key, value in learner.state_dict().items() if not key.startswith("lrs")}
    assert list(own) == list(stock.state_dict()), "the names are learn2learn's"
    with pytest.raises(RuntimeError, match="Missing key"):
        learner.load_state_dict({})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        learner.load_state_dict({**learner.state_dict(), "module.more": torch.zeros(1)})


@pytest.mark.parametrize("layout", ["learn2learn", "task"])
@pytest.mark.parametrize("first_order", [True, False])
def test_orders_and_frozen_parameters_are_learn2learns(layout: str, first_order: bool) -> None:
    """Against learn2learn itself, on the same network."""
    learner, task = case("maml", "fmaml-conv", layout)
    stock = learn2learn.algorithms.MAML(learner.model, lr=learner.lr)
    frozen = learner.model.head.bias
    frozen.requires_grad_(False)

    def gradient(of: Any) -> torch.Tensor:
        clone = of.clone(first_order=first_order, allow_nograd=True)
        for _ in range(2):
            clone.adapt(support_loss(clone, task))
        assert torch.equal(dict(clone.module.named_parameters())["head.bias"], frozen), (
            "a frozen parameter is left alone"
        )
        loss = F.cross_entropy(clone(task.query_x), task.query_y)
        return flat(torch.autograd.grad(loss, [p for p in learner.model.parameters() if p.requires_grad]))

    assert difference(gradient(learner), gradient(stock)) < 1e-12


@pytest.mark.parametrize("broken", ["__init__", "clone", "adapt"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_where_learn2learn_does_not_work_nothing_is_trained(
    name: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the main job's default layout."""

    def fails(*_: Any, **__: Any) -> None:
        raise ArithmeticError("learn2learn computes")

    for kind in (learn2learn.algorithms.MAML, learn2learn.algorithms.MetaSGD):
        monkeypatch.setattr(kind, broken, fails)

    def trained() -> None:
        settings = settings_of(name, **({"lambda_ratio": 1.0} if name == "regmaml" else {}))
        learner = algorithms.build(settings, models.build("fmaml-conv", (8, 8), 7, 0))
        with Workers(1) as workers:
            train(learner, stream(), config.Training(iterations=1, meta_batch=1), workers, lambda *_: None)

    with pytest.raises(ArithmeticError, match="learn2learn computes"):
        trained()


@pytest.mark.parametrize("name", ["fmaml", "reptile", "protonet", "supervised"])
def test_where_task_datasets_do_not_work_nothing_is_trained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ArithmeticError("tasks are learn2learn's")

    monkeypatch.setattr(learn2learn.data.TaskDataset, "__getitem__", fails, raising=False)
    learner = learners.build(settings_of(name), [models.build("fmaml-conv", (8, 8), 7, 0)])
    with pytest.raises(ArithmeticError, match="learn2learn's"), Workers(1) as workers:
        train(learner, stream(), config.Training(iterations=1, meta_batch=1), workers, lambda *_: None)


# --- tasks ---


def test_a_task_is_a_pair_with_names_besides() -> None:
    task = speech_tasks()[0]
    data, labels = task
    shots = len(task.support_y)
    assert torch.equal(data[:shots], task.support_x)
    assert torch.equal(labels, torch.cat([task.support_y, task.query_y]))
    assert len(task) == 2
    (batch, answers) = next(iter(DataLoader(speech_tasks(num_tasks=4), batch_size=2)))
    assert batch.shape == (2, *data.shape)
    assert answers.shape == (2, *labels.shape)


def test_task_transforms_are_learn2learns() -> None:
    """A transform of one's own comes after those that draw a task; learn2learn's own make tasks of the same dataset."""
    seen: list[Any] = []

    def note(episode: Any) -> Any:
        seen.append(episode)
        return episode

    tasks = speech_tasks(task_transforms=[note])
    assert torch.equal(tasks.task(1, 2).query_index, torch.from_numpy(seen[-1].query_index))
    assert torch.equal(tasks.task(1, 2).query_x, speech_tasks().task(1, 2).query_x)
    kit = learn2learn.data.transforms
    stock = learn2learn.data.TaskDataset(tasks.dataset, [kit.NWays(tasks.dataset, 3), kit.KShots(tasks.dataset, 2),
                                                         kit.LoadData(tasks.dataset), kit.RemapLabels(tasks.dataset)])  # fmt: skip
    data, labels = stock.sample()
    assert len(data) == 6
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_one_corpus_is_a_task_dataset_in_a_line(tmp_path: Any) -> None:
    for place, emotion in enumerate(("anger", "fear", "sadness")):
        for take in range(6):
            clip(tmp_path / "mine" / f"s{take % 2}" / emotion / f"{take}.wav", seed=10 * place + take)
    tasks = corpus_tasks(tmp_path / "mine", ["anger", "fear", "sadness"], shots=2, queries=2, num_tasks=3)
    assert isinstance(tasks, learn2learn.data.TaskDataset)
    assert len(tasks) == 3
    data, labels = tasks[2]
    assert data.shape[0] == len(labels) == 3 * (2 + 2)
    assert torch.equal(data, corpus_tasks(tmp_path / "mine", ["anger", "fear", "sadness"], shots=2, queries=2)
                       .task(0, 2)[0])  # fmt: skip
    with pytest.raises(UserError, match="did you mean 'emodb'"):
        corpus_tasks("emobd", list(EMOTIONS))


def test_readme_shows_the_example() -> None:
    shown = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert shown in (REPOSITORY / "examples" / "plain_learn2learn.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_run(tmp_path: Any) -> None:
    done = subprocess.run([sys.executable, REPOSITORY / "examples" / "plain_learn2learn.py"], capture_output=True, text=True,
                          check=False, timeout=600, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("iteration")]
    assert sum(found[-5:]) > sum(found[:5]) + 5 * 5, "something is learned"


@pytest.mark.quick
def test_an_algorithm_of_ones_own_is_named_by_its_file() -> None:
    own = f"{REPOSITORY / 'examples' / 'own_algorithm.py'}:Proximal"
    task = task_for("tanh")
    mine = learners.build(settings_of(own, steps=3), [network("tanh", task)])
    plain = algorithms.build(settings_of("fomaml", steps=3), network("tanh", task))
    apart = difference(
        flat(mine.meta_gradient(mine.engine.group([task])).gradients),
        flat(plain.meta_gradient(plain.engine.group([task])).gradients),
    )
    assert 1e-6 < apart < 1
    for wrong, says in (
        (own + "s", "has no class Proximals"),
        ("nowhere.py:X", "cannot be imported"),
        ("os:path", "no class path"),
    ):
        with pytest.raises(UserError, match=says):
            learners.build(settings_of(wrong), [network("tanh", task)])
