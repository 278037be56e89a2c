"""Baselines in the learners' form, and what an algorithm may do its own way on the same clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch.func import functional_call
from torch.nn import functional as F

from metaser import config, models
from metaser.algorithms.base import Sources
from metaser.baselines import Gaussian
from metaser.runtime.errors import UserError
from metaser.tasks import Task
from metaser.training import learners, methods
from support.networks import difference, flat, meta, network, settings_of
from support.tasks import EMOTIONS, shape_of, tasks_of, toy_task, utterances

pytestmark = [pytest.mark.arithmetic, pytest.mark.quick]


def learner_of(name: str, net: torch.nn.Module, **changes: object) -> learners.Learner:
    return learners.build(settings_of(name, **changes), [net])


def everything_in_support(task: Task) -> Task:
    """A task whose support set has all of its query set's classes."""
    return replace(task, support_x=torch.cat([task.support_x, task.query_x[::2]]),
                   support_y=torch.cat([task.support_y, task.query_y[::2]]))  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(1, 3), st.sampled_from(["mixed", "disjoint"]),
       st.sampled_from([("silence",), ("neutral", "silence")]))  # fmt: skip
def test_algorithms_that_see_a_task_differently_see_the_same_clips(
    seed: int, ways: int, fixed_shots: int, speakers: str, fixed: tuple[str, ...]
) -> None:
    table = utterances(clips=16, speakers=6)
    shape = shape_of(ways=ways, fixed=fixed, fixed_shots=fixed_shots, speakers=speakers, min_queries=1)
    plain, ordered, own, seven = (
        tasks_of(table, shape, seed, **more).task(1, 2)
        for more in ({}, {"order": "fixed"}, {"order": "own"}, {"order": "fixed", "in_support": True})
    )
    for task in (plain, ordered, own, seven):
        for rows, labels in ((task.support_index, task.support_y), (task.query_index, task.query_y)):
            assert list(table.loc[rows.numpy(), "emotion"]) == [task.classes[y] for y in labels], (
                "labels name the classes"
            )
        assert torch.equal(task.query_index, plain.query_index)
        assert task.classes[-len(fixed) :] == fixed
        assert torch.equal(task.support_index[: len(plain.support_index)], plain.support_index)
    assert list(ordered.classes[:ways]) == sorted(ordered.classes[:ways], key=EMOTIONS.index)
    assert own.classes[: -len(fixed)] == tuple(EMOTIONS), "an output for every class, drawn or not"
    assert len(ordered.support_index) == len(plain.support_index)
    extra = table.loc[seven.support_index.numpy()[len(plain.support_index) :]]
    assert extra["emotion"].value_counts().to_dict() == dict.fromkeys(fixed, fixed_shots)
    support, query = table.loc[seven.support_index.numpy()], table.loc[seven.query_index.numpy()]
    assert not set(support["group"]) & set(query["group"])
    if speakers == "disjoint":
        assert not set(support["corpus"] + support["speaker"]) & set(query["corpus"] + query["speaker"])


def test_a_fixed_class_with_too_few_clips_for_support_and_query_is_named() -> None:
    with pytest.raises(UserError, match="class silence has 4 clips, too few for 2 support"):
        tasks_of(utterances(silence=6), shape_of(fixed_shots=2))


def test_supervised_learning_follows_the_query_loss_where_it_stands() -> None:
    task = toy_task(fixed=1)
    net = network("tanh", task)
    found = flat(meta(learner_of("supervised", net), task).gradients)
    right = flat(torch.autograd.grad(F.cross_entropy(net(task.query_x), task.query_y), list(net.parameters())))
    assert difference(found, right) < 1e-12


def test_zero_shot_asks_the_network_as_it_was_trained() -> None:
    task = toy_task()
    net = network("tanh", task)
    assert torch.equal(learner_of("supervised", net, test_steps=0).predict(task), net(task.query_x))


@pytest.mark.parametrize("layers", ["all", "head"])
def test_fine_tuning_is_gradient_descent_on_those_layers(layers: str) -> None:
    task = toy_task()
    net = network("tanh", task)
    weights = dict(net.named_parameters())
    for _ in range(7):
        loss = F.cross_entropy(functional_call(net, weights, task.support_x), task.support_y)
        chosen = [name for name in weights if layers == "all" or name.startswith("head")]
        gradients = torch.autograd.grad(loss, [weights[name] for name in chosen])
        weights = {**weights, **{name: weights[name] - 0.05 * one for name, one in zip(chosen, gradients, strict=True)}}
    right = functional_call(net, weights, task.query_x)
    assert difference(learner_of("supervised", net, test_steps=7, layers=layers).predict(task), right) < 1e-12


def test_prototypes_are_class_means_and_logits_squared_distances() -> None:
    task = everything_in_support(toy_task(fixed=1))
    net = network("tanh", task)
    learner = learner_of("protonet", net)
    embedded, asked = net(task.support_x), net(task.query_x)  # the head is off by now
    assert embedded.shape[1] == 6
    for output in range(len(task.classes)):
        centre = embedded[task.support_y == output].mean(dim=0)
        right = -(asked - centre).square().sum(dim=1)
        assert difference(learner.predict(task)[:, output], right) < 1e-12


def test_a_prototypical_networks_gradient_agrees_with_finite_differences() -> None:
    task = everything_in_support(toy_task())
    net = network("tanh", task)
    learner = learner_of("protonet", net)
    found = flat(meta(learner, task).gradients)
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in learner.parameters()]

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for parameter, d in zip(learner.parameters(), direction, strict=True):
                parameter.add_(d, alpha=step)
            value = F.cross_entropy(learner.predict(task), task.query_y).item()
            for parameter, d in zip(learner.parameters(), direction, strict=True):
                parameter.sub_(d, alpha=step)
        return value

    numeric = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    assert float(found @ flat(direction)) == pytest.approx(numeric, rel=1e-7)


def test_a_prototypical_network_needs_every_class_in_the_support_set() -> None:
    task = toy_task(fixed=1)
    with pytest.raises(ValueError, match=r"fixed0.*fixed_support"):
        learner_of("protonet", network("tanh", task)).predict(task)


def sources_for(task: Task, clips: int = 30) -> Sources:
    """Clips of the task's classes, from elsewhere."""
    other = toy_task(ways=len(task.classes), shots=clips, seed=5, shape=tuple(task.query_x.shape[1:]))
    return Sources(other.support_x, [task.classes[y] for y in other.support_y], ["elsewhere"] * len(other.support_y))


def test_the_classical_baseline_is_the_product_of_its_two_models() -> None:
    task = everything_in_support(toy_task(shape=(6, 1), shots=4))
    learner = learner_of("classical", network("tanh", task))
    sources = sources_for(task)
    learner.prepare(sources)
    scaler = StandardScaler().fit(sources.x[:, :, 0])
    first = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(sources.x[:, :, 0]), sources.emotions)
    second = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(task.support_x[:, :, 0], task.support_y)
    product = first.predict_proba(scaler.transform(task.query_x[:, :, 0])) * second.predict_proba(task.query_x[:, :, 0])
    right = product / product.sum(axis=1, keepdims=True)
    found = learner.predict(task).double().softmax(dim=1).numpy()
    assert found == pytest.approx(right, abs=1e-4)


def test_a_class_without_support_keeps_the_probability_that_the_sources_give_it() -> None:
    task = toy_task(shape=(6, 1), shots=4, fixed=1)
    learner = learner_of("classical", network("tanh", task))
    sources = sources_for(task)
    learner.prepare(sources)
    scaler = StandardScaler().fit(sources.x[:, :, 0])
    first = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(sources.x[:, :, 0]), sources.emotions)
    share = first.predict_proba(scaler.transform(task.query_x[:, :, 0]))[:, list(first.classes_).index("fixed0")]
    assert learner.predict(task).softmax(dim=1)[:, -1].numpy() == pytest.approx(share, abs=1e-5)


def test_the_classical_baseline_says_what_it_cannot_do() -> None:
    task = toy_task(fixed=1)
    learner = learner_of("classical", network("tanh", task))
    with pytest.raises(UserError, match="iterations: 0"):
        meta(learner, task)
    learner.prepare(sources_for(toy_task()))
    with pytest.raises(ValueError, match="no clip of fixed0"):
        learner.predict(task)


def test_an_ensemble_averages_probabilities_and_trains_every_member() -> None:
    task = toy_task()
    nets = [models.build("metaser-lstm", (4, 5), 3, seed).double() for seed in (1, 2, 3)]
    whole, alone = learners.build(settings_of("fomaml"), nets), [learner_of("fomaml", net) for net in nets]
    mean = torch.stack([one.predict(task).softmax(dim=1) for one in alone]).mean(dim=0)
    assert difference(whole.predict(task).exp(), mean) < 1e-12
    right = torch.cat([flat(meta(one, task).gradients) for one in alone])
    assert torch.equal(flat(meta(whole, task).gradients), right)
    assert len(list(whole.parameters())) == sum(len(list(net.parameters())) for net in nets)


def study(**changes: object) -> config.Experiment:
    tree = {
        "experiment": "e", "seeds": [0], "data": {"collections": {"c": {"corpora": ["emodb"]}}, "emotions": list(EMOTIONS)},
        "features": {"recipe": "fmaml"}, "tasks": {"ways": 5, "shots": 5, "fixed": ["silence"]}, "model": {"name": "fmaml-conv"},
        "training": {"iterations": 10, "outer_lr": 0.1}, "algorithms": {"a": {"name": "fomaml", "inner_lr": 0.1, "steps": 1}},
    }  # fmt: skip
    return methods.experiment({**tree, **changes})


def test_an_algorithms_own_settings_stand_over_the_experiments() -> None:
    own = {"name": "supervised", "inner_lr": 0.1, "steps": 1, "outer_lr": 0.01, "iterations": 0, "order": "fixed",
           "features": {"recipe": "functionals", "normalise": "speaker"}, "model": {"name": "mlp"}}  # fmt: skip
    settings = study(algorithms={"a": {"name": "fomaml", "inner_lr": 0.1, "steps": 1}, "b": own})
    a, b = settings.of("a"), settings.of("b")
    assert (a.features, a.model, a.tasks, a.training) == (
        settings.features,
        settings.model,
        settings.tasks,
        settings.training,
    )
    assert (b.features.recipe, b.features.normalise, b.model.name, b.tasks.order) == (
        "functionals",
        "speaker",
        "mlp",
        "fixed",
    )
    assert (b.training.iterations, b.training.outer_lr) == (0, 0.01)


def test_fixed_support_needs_fixed_shots() -> None:
    entry = {"name": "maml", "inner_lr": 0.1, "steps": 1, "fixed_support": True}
    with pytest.raises(ValueError, match=r"algorithms.b.fixed_support: needs .*fixed_shots"):
        study(algorithms={"b": entry})


def test_the_mlp_takes_functionals() -> None:
    net = models.build("mlp", (327, 1), 7, 0)
    assert net(torch.randn(3, 327, 1)).shape == (3, 7)
    assert sum(p.numel() for p in net.parameters()) == 327 * 128 + 128 * 3 + 128 * 64 + 64 * 3 + 64 * 7 + 7
    assert np.isfinite(net(torch.zeros(2, 327, 1)).detach().numpy()).all()


def gaussian_of(task: Task, sources: Sources, **options: float | list[float]) -> np.ndarray:
    learner = learner_of("gaussian", network("tanh", task), gaussian=options)
    learner.prepare(sources)
    return learner.predict(task).double().softmax(dim=1).numpy()


def test_without_the_sources_the_gaussian_classifier_is_linear_discriminant_analysis() -> None:
    """A prior worth nothing, the support set's own covariance, hardly shrunk: scikit-learn's LDA."""
    task = toy_task(shape=(3, 1), shots=20, queries=6)
    found = gaussian_of(task, sources_for(task), prior=1e-9, own=1.0, shrinkage=1e-9, temperature=1.0, unlabelled=0.0)
    model = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3)
    model.fit(task.support_x[:, :, 0], task.support_y)
    # scikit-learn divides the scatter by n, this by n − classes: the same after scaling the logits.
    scores = model.decision_function(task.query_x[:, :, 0]) * (60 - 3) / 60
    right = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert found == pytest.approx(right, abs=1e-5)


def test_with_an_endless_prior_the_support_set_does_not_matter() -> None:
    task = toy_task(shape=(3, 1), shots=4)
    sources, options = sources_for(task), {"prior": 1e6, "own": 0.0, "unlabelled": 0.0}
    other = replace(task, support_x=-3 * task.support_x)
    assert gaussian_of(task, sources, **options) == pytest.approx(gaussian_of(other, sources, **options), abs=1e-4)


def test_a_fixed_class_stays_where_the_sources_have_it() -> None:
    """Three classes adapt to clips moved far away; the fixed one, which did not move, is still found."""
    task = toy_task(shape=(3, 1), shots=8, fixed=1)
    sources = sources_for(task)
    moved = task.query_y < 3
    away = replace(
        task, support_x=task.support_x - 4, query_x=torch.where(moved[:, None, None], task.query_x - 4, task.query_x)
    )
    found = gaussian_of(away, sources, unlabelled=0.0, prior=1.0).argmax(axis=1)
    assert (found[~moved.numpy()] == 3).all()


def test_unlabelled_clips_count_by_their_probability() -> None:
    """One step by hand equals the classifier with as many steps, when their weight tends to 0; and with weight it differs."""
    task = toy_task(shape=(3, 1), shots=2, queries=30)
    sources = sources_for(task)
    none, tiny, some = (gaussian_of(task, sources, unlabelled=weight) for weight in (0.0, 1e-9, 1.0))
    assert tiny == pytest.approx(none, abs=1e-6)
    assert np.abs(some - none).max() > 1e-3


def test_a_gaussian_classifiers_answer_depends_on_no_other_query_clip_when_inductive() -> None:
    task = toy_task(shape=(3, 1), shots=3)
    sources = sources_for(task)
    alone = replace(task, query_x=task.query_x[:1], query_y=task.query_y[:1])
    whole = gaussian_of(task, sources, unlabelled=0.0)
    assert gaussian_of(alone, sources, unlabelled=0.0) == pytest.approx(whole[:1], abs=1e-6)


def test_means_and_covariance_are_those_of_the_formulas() -> None:
    """One inductive answer by hand, with every option at work."""
    task = toy_task(shape=(4, 1), shots=5, fixed=1)
    sources = sources_for(task)
    a, rho, k, temperature, fixed = 0.4, 0.2, 3.0, 0.7, -0.5
    found = gaussian_of(
        task, sources, own=a, shrinkage=rho, prior=k, temperature=temperature, unlabelled=0.0, fixed=fixed
    )
    x, names = sources.x[:, :, 0].double().numpy().clip(-5, 5), np.array(sources.emotions)
    known = np.stack([x[names == name].mean(axis=0) for name in task.classes])
    support, y = task.support_x[:, :, 0].double().numpy().clip(-5, 5), task.support_y.numpy()
    own = np.stack([support[y == c].mean(axis=0) for c in range(3)])
    means = np.concatenate([(5 * own + k * known[:3]) / (5 + k), known[3:]])
    inside = np.concatenate([x[names == name] - known[c] for c, name in enumerate(task.classes[:3])])
    pooled = inside.T @ inside / len(inside)
    residuals = support - own[y]
    mixed = (1 - a) * pooled + a * residuals.T @ residuals / (len(residuals) - 3)
    inverse = np.linalg.inv((1 - rho) * mixed + rho * np.diag(np.diag(pooled)))
    query = task.query_x[:, :, 0].double().numpy().clip(-5, 5)
    logits = temperature * (query @ inverse @ means.T - 0.5 * np.einsum("cf,fg,cg->c", means, inverse, means))
    logits[:, 3] += fixed
    assert found == pytest.approx(softmax(logits, axis=1), abs=1e-5)


def test_options_are_chosen_on_the_sources_with_the_tasks_language_left_out() -> None:
    """Two languages that agree: priors that trust the other are chosen. Two that do not: those that do not."""
    tasks = [
        replace(toy_task(shape=(3, 1), shots=1, queries=10, seed=number), domain="ab"[number % 2])
        for number in range(40)
    ]
    single = sources_for(tasks[0])
    priors = [0.01, 0.02, 0.03, 100.0, 200.0, 300.0]

    def kept(other: torch.Tensor, turn: float) -> set[float]:
        learner = learner_of("gaussian", network("tanh", tasks[0]), gaussian={"prior": priors, "unlabelled": 0.0})
        assert isinstance(learner, Gaussian)
        count = len(single.emotions)
        learner.prepare(Sources(torch.cat([single.x, other]), single.emotions * 2, ["a"] * count + ["b"] * count))
        learner.finish(lambda number: tasks[number] if tasks[number].domain == "a" else turned(tasks[number], turn))
        assert learner.chosen["averaged"] == 2
        return {options.prior for options in learner.kept}

    assert kept(single.x, 1.0) <= set(priors[3:])
    assert kept(-single.x, -1.0) <= set(priors[:3])


def turned(task: Task, by: float) -> Task:
    return replace(task, support_x=by * task.support_x, query_x=by * task.query_x)


def test_with_one_source_there_is_nothing_to_choose_by_and_all_are_averaged() -> None:
    task = toy_task(shape=(3, 1), shots=2)
    learner = learner_of("gaussian", network("tanh", task), gaussian={"prior": [3.0, 5.0]})
    learner.prepare(sources_for(task))
    learner.finish(lambda number: pytest.fail("no task is asked for"))
    assert not learner.chosen
    apart = [gaussian_of(task, sources_for(task), prior=prior) for prior in (3.0, 5.0)]
    assert learner.predict(task).double().exp().numpy() == pytest.approx(np.mean(apart, axis=0), abs=1e-6)


def test_every_source_counts_alike_whatever_its_size() -> None:
    task = toy_task(shape=(3, 1), shots=2)
    one = sources_for(task)
    twice = Sources(torch.cat([one.x, one.x + 1, one.x + 1]), one.emotions * 3,
                    [name for name, times in (("a", 1), ("b", 2)) for _ in range(times * len(one.emotions))])  # fmt: skip
    once = Sources(
        torch.cat([one.x, one.x + 1]), one.emotions * 2, ["a"] * len(one.emotions) + ["b"] * len(one.emotions)
    )
    assert gaussian_of(task, once) == pytest.approx(gaussian_of(task, twice), abs=1e-9)


def test_no_gradient_trains_it() -> None:
    task = toy_task()
    with pytest.raises(UserError, match="iterations: 0"):
        meta(learner_of("gaussian", network("tanh", task)), task)
