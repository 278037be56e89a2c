"""Whole corpora as tasks: how they are divided, how networks are fitted to clips, and MetaSER's baselines."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from metaser import config, models
from metaser.algorithms import fitting
from metaser.algorithms.base import Learner, Sources
from metaser.algorithms.fitting import augmented, fit, hold_out, set_prototypes
from metaser.baselines.multiser import OneAgainstRest
from metaser.reporting.trends import crossing
from metaser.runtime.errors import DivergedError, UserError
from metaser.tasks import SpeechTasks, SplitSampler, Task
from metaser.training import learners
from support.networks import settings_of
from support.tasks import features_of, utterances

pytestmark = pytest.mark.arithmetic

CLASSES = ("anger", "happiness", "neutral", "sadness")
FAST = config.Fit(epochs=3, batch=8, base_lr=1e-3, max_lr=1e-2, cycle=2, patience=3)


# --- divisions ---


def corpus(clips: int = 12, speakers: int = 4) -> pd.DataFrame:
    return utterances(clips=clips, speakers=speakers, classes=CLASSES, silence=0)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(6, 20), st.floats(0.2, 0.4), st.floats(0.1, 1.0))
def test_a_random_division_takes_the_same_share_of_every_class(
    seed: int, clips: int, share: float, part: float
) -> None:
    table = corpus(clips)
    whole, some = (
        SplitSampler(table, ["bb"], CLASSES, share, fraction=f).draw(np.random.default_rng(seed)) for f in (1.0, part)
    )
    assert not set(whole.support_index) & set(whole.query_index)
    assert set(whole.support_index) | set(whole.query_index) == set(table.index[table["domain"] == "bb"])
    for rows, labels in ((whole.support_index, whole.support_y), (whole.query_index, whole.query_y)):
        assert list(table.loc[rows, "emotion"]) == [CLASSES[y] for y in labels]
    asked = np.bincount(whole.query_y, minlength=4)
    assert np.ptp(asked) == 0
    assert abs(asked[0] - share * clips) <= 0.5
    assert set(some.support_index) <= set(whole.support_index), "a part of the same division"
    assert (some.query_index == whole.query_index).all()
    kept = np.bincount(some.support_y) / np.bincount(whole.support_y)
    assert (np.abs(kept - part) <= 2 / np.bincount(whole.support_y)).all()


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(4, 8), st.sampled_from([0.2, 0.3, 0.5]))
def test_a_division_of_the_speakers_shares_none_and_no_recording(seed: int, speakers: int, share: float) -> None:
    table = corpus(16, speakers)
    table.loc[0, "group"] = table.loc[1, "group"]  # the same audio under two speakers' names binds them together
    episode = SplitSampler(table, ["aa"], CLASSES, share, "disjoint").draw(np.random.default_rng(seed))
    support, query = table.loc[episode.support_index], table.loc[episode.query_index]
    assert not set(support["speaker"]) & set(query["speaker"])
    assert not set(support["group"]) & set(query["group"])
    assert set(support["emotion"]) == set(query["emotion"]) == set(CLASSES)
    assert len(support) + len(query) == 64


def test_a_corpus_whose_speakers_cannot_be_divided_is_named() -> None:
    table = corpus(8, 4)
    table["speaker"] = table["emotion"]  # whoever speaks has one emotion
    with pytest.raises(UserError, match=r"aa: no division of its 4 speakers leaves clips of \w+ on both sides; use"):
        SplitSampler(table, ["aa"], CLASSES, 0.3, "disjoint")
    with pytest.raises(UserError, match="aa: class anger has 1 clips, too few to divide"):
        SplitSampler(table.drop(index=range(1, 8)), ["aa"], CLASSES, 0.3)


@pytest.mark.quick
def test_a_task_says_whether_its_query_speakers_are_new() -> None:
    table = corpus()
    for how, new in (("mixed", False), ("disjoint", True)):
        sampler = SplitSampler(table, ["aa"], CLASSES, 0.3, how)
        task = SpeechTasks(
            features_of(table), list(table["emotion"]), sampler, 0, speakers=list(table["speaker"])
        ).task(0, 0)
        assert task.new_speakers is new
        assert list(task.support_speakers) == list(table.loc[task.support_index.numpy(), "speaker"])


# --- fitting ---


def clips_of(count: int = 48, seed: int = 0, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips ``(count, 4, 5)`` of four classes, each around a level of its own."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    return y[:, None, None] - 1.5 + spread * torch.randn(count, 4, 5, generator=rng), y


def lstm(outputs: int = 4) -> nn.Module:
    return models.build("metaser-lstm", (4, 5), outputs, 0)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32), st.lists(st.integers(2, 20), min_size=2, max_size=5), st.floats(0.05, 0.5), st.integers(0, 5)
)
def test_held_out_clips_leave_every_class_on_both_sides(
    seed: int, sizes: list[int], share: float, speakers: int
) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    who = [f"s{n % speakers}" for n in range(len(y))] if speakers else []
    kept, held = hold_out(y, share, seed, who)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert set(y[kept]) == set(y[held]) == set(range(len(sizes)))


def test_held_out_clips_are_of_other_speakers_where_that_can_be() -> None:
    y, who = np.tile(np.arange(4), 30), [f"s{n // 24}" for n in range(120)]
    kept, held = hold_out(y, 0.2, 1, who)
    assert not {who[n] for n in kept} & {who[n] for n in held}


def test_the_weights_that_are_kept_are_those_of_the_smallest_held_out_loss() -> None:
    x, y = clips_of()
    network = lstm()
    before = copy.deepcopy(network)
    done = fit(network, x, y, FAST.model_copy(update={"epochs": 30, "patience": 5}), seed=3)
    _, held = hold_out(y.numpy(), 0.2, 3)
    with torch.no_grad():
        after, start = (F.cross_entropy(net(x[held]), y[held]).item() for net in (network, before))
    assert after == pytest.approx(done.loss, rel=1e-6)
    assert after < 0.5 * start
    assert done.best > 0


def test_it_stops_when_held_out_clips_get_no_better_and_then_keeps_what_was_best() -> None:
    x, y = clips_of()
    network = lstm()
    before = copy.deepcopy(network.state_dict())
    wrong = FAST.model_copy(update={"epochs": 50, "patience": 4})
    done = fit(network, x, y, wrong, 0, objective=lambda x, y, step: network(x).sum() * (1 if step is None else -1))
    assert (done.best, done.epochs) == (0, 4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_same_seed_gives_the_same_weights() -> None:
    x, y = clips_of()
    one, two, other = lstm(), lstm(), lstm()
    for network, seed in ((one, 1), (two, 1), (other, 2)):
        fit(network, x, y, FAST.model_copy(update={"noise": 0.1, "shift": 1}), seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_dense_layers_alone_are_tuned_the_same_with_the_frozen_part_asked_once_or_every_time() -> None:
    class Whole(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

    x, y = clips_of()
    x, once, always = x.double(), lstm().double(), lstm().double()
    before = copy.deepcopy(once.state_dict())
    dense = FAST.model_copy(update={"layers": "dense"})
    fit(once, x, y, dense, 0)
    fit(Whole(always), x, y, dense, 0)
    for name, value in once.state_dict().items():
        assert torch.allclose(value, always.state_dict()[name], atol=1e-6)
        assert torch.equal(value, before[name]) == name.startswith("lstm."), name


def test_the_learning_rate_goes_up_and_down_between_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self))[1])
    x, y = clips_of()  # 38 clips to train on: 5 batches of 8, so 10 steps a cycle
    fit(lstm(), x, y, FAST.model_copy(update={"epochs": 4, "patience": 9}), 0)
    up = np.linspace(1e-3, 1e-2, 6)
    assert np.allclose(seen, np.tile([*up[:-1], *up[:0:-1]], 2))


def test_divergence_is_an_error() -> None:
    x, y = clips_of()
    with pytest.raises(DivergedError, match="lower max_lr"):
        fit(lstm(), x * float("inf"), y, FAST, 0)


def test_shifted_clips_are_the_same_clips_moved() -> None:
    x = torch.arange(1.0, 11.0).reshape(1, 2, 5).repeat(200, 1, 1)
    moved = augmented(x, FAST.model_copy(update={"shift": 2}), torch.Generator().manual_seed(0))
    expected = {
        tuple(F.pad(x[0], (max(0, -by), max(0, by)))[:, max(0, by) : max(0, by) + 5].flatten().tolist())
        for by in range(-2, 3)
    }
    assert {tuple(clip.flatten().tolist()) for clip in moved} == expected
    noisy = augmented(x, FAST.model_copy(update={"noise": 0.5}), torch.Generator().manual_seed(0)) - x
    assert noisy.std().item() == pytest.approx(0.5, rel=0.05)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9))
def test_masked_clips_lack_one_stretch_of_bands_and_one_of_frames(seed: int, bands: int, frames: int) -> None:
    x = torch.ones(50, 6, 9)
    masked = augmented(
        x, FAST.model_copy(update={"mask_bands": bands, "mask_frames": frames}), torch.Generator().manual_seed(seed)
    )
    for clip in masked:
        low, gone = (clip == 0).all(dim=1), (clip == 0).all(dim=0)
        assert torch.equal(clip == 0, low[:, None] | gone), "whole bands and whole frames"
        for lacking, most in ((low, bands), (gone, frames)):
            at = torch.flatten(lacking.nonzero())
            if lacking.all():
                continue  # the other mask took everything
            assert len(at) <= most
            assert len(at) == 0 or at[-1] - at[0] == len(at) - 1, "in a row"
    assert (masked == 0).any()


def test_a_head_of_prototypes_answers_as_a_prototypical_network_does() -> None:
    x, y = clips_of()
    network = lstm()
    set_prototypes(network, x, y)
    network_without, head = copy.deepcopy(network), network.head
    network_without.head = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        embedded = network_without(x)
        prototypes = torch.stack([embedded[y == label].mean(dim=0) for label in range(4)])
        expected = -(embedded[:, None] - prototypes).square().sum(dim=2)
        assert torch.allclose(network(x).softmax(dim=1), expected.softmax(dim=1), atol=1e-5)
        before = head.weight.clone()  # type: ignore[operator, union-attr]
        set_prototypes(network, x[y < 2], y[y < 2])
        assert torch.equal(head.weight, before), "the same clips give the same, and classes without clips keep theirs"


@pytest.mark.quick
def test_statistics_pooling_is_of_all_frames_and_hears_no_order_beyond_its_reach() -> None:
    network = models.build("statistics-pooling", (5, 40), 3, 0)
    x = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = network.body(x)  # type: ignore[operator]
        statistics = network.represent(x)  # type: ignore[operator]
        assert torch.allclose(statistics[:, :64], state.mean(dim=2), atol=1e-6)
        assert torch.allclose(statistics[:, 64:], state.std(dim=2, correction=0), atol=1e-3)
        assert network(x).shape == (2, 3)
    gradients = torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    silent = torch.zeros(1, 5, 40, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(silent).sum(), silent)
    assert gradient.isfinite().all(), "also where nothing varies"


# --- MetaSER's baselines ---


def sources_of(domains: tuple[str, ...] = ("aa", "bb"), count: int = 24) -> Sources:
    parts = [clips_of(count, seed) for seed in range(len(domains))]
    names = [CLASSES[label] for _, y in parts for label in y]
    return Sources(torch.cat([x for x, _ in parts]), names, [name for name in domains for _ in range(count)], CLASSES)


def task_of(seed: int = 9, count: int = 24) -> Task:
    x, y = clips_of(2 * count, seed)
    who = tuple(f"s{n % 3}" for n in range(count))
    return Task(
        x[:count], y[:count], x[count:], y[count:], CLASSES, 0, "cc", torch.arange(count), torch.arange(count), who, who
    )


def learner_of(name: str, **changes: object) -> Learner:
    return learners.build(settings_of(name, iterations=0, **changes), [lstm()])


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.model.state_dict().items()}


def test_transser_is_joint_training_with_one_source_and_goes_through_several_in_order() -> None:
    one = sources_of(("aa",))
    joint, sequential = learner_of("joint", pretraining=FAST), learner_of("transser", pretraining=FAST)
    joint.prepare(one)
    sequential.prepare(one)
    assert all(torch.equal(a, b) for a, b in zip(joint.parameters(), sequential.parameters(), strict=True))

    two, turned = sources_of(("aa", "bb")), sources_of(("bb", "aa"))
    half = len(two.domains) // 2
    turned = replace(turned, x=torch.cat([two.x[half:], two.x[:half]]))
    forwards, backwards = learner_of("transser", pretraining=FAST), learner_of("transser", pretraining=FAST)
    forwards.prepare(two)
    backwards.prepare(turned)
    assert list(forwards.chosen) == ["epochs_aa", "epochs_bb"]
    assert not all(torch.equal(a, b) for a, b in zip(forwards.parameters(), backwards.parameters(), strict=True))
    again = learner_of("transser", pretraining=FAST)
    again.prepare(one)
    again.prepare(Sources(two.x[half:], two.emotions[half:], two.domains[half:], CLASSES))
    assert all(torch.equal(a, b) for a, b in zip(forwards.parameters(), again.parameters(), strict=True)), (
        "stage by stage"
    )


def test_models_that_are_pre_trained_alike_share_it_and_get_what_each_alone_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever decides it, be it the clips, the settings or the initial weights, makes it another pre-training."""
    fits: list[config.Fit] = []

    def counted(*arguments: Any) -> fitting.Fitted:
        fits.append(arguments[3])
        return fit(*arguments)

    monkeypatch.setattr(fitting, "fit", counted)
    fitting._remembered.clear()
    sources = sources_of(("aa",))
    first, second = learner_of("joint", pretraining=FAST), learner_of("fomaml", pretraining=FAST)
    first.prepare(sources)
    second.prepare(sources)
    assert len(fits) == 1
    assert first.spared == 0 < second.spared
    fitting._remembered.clear()
    alone = learner_of("fomaml", pretraining=FAST)
    alone.prepare(sources)
    assert alone.spared == 0
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), second.parameters(), strict=True))
    assert alone.chosen == second.chosen

    longer = learner_of("joint", pretraining=FAST.model_copy(update={"epochs": 2}))
    others = learner_of("joint", pretraining=FAST)
    redrawn = learners.build(alone.settings, [models.build("metaser-lstm", (4, 5), 4, 1)])
    for learner, clips in ((longer, sources), (others, replace(sources, x=sources.x + 1)), (redrawn, sources)):
        learner.prepare(clips)
        assert learner.spared == 0
    for number in range(fitting.REMEMBERED):
        learner_of("joint", pretraining=FAST).prepare(replace(sources, x=sources.x + 2 + number))
    last = learner_of("joint", pretraining=FAST)
    last.prepare(sources)
    assert last.spared == 0, "no more than so many are kept"


def test_multiser_trains_one_emotion_against_the_rest_at_a_time() -> None:
    x, y = clips_of()
    network = lstm()
    tasks = OneAgainstRest(network, 4)
    for step in range(5):
        tasks.zero_grad()
        loss = tasks.loss(x, y, step)
        loss.backward()
        busy = [any(p.grad is not None and p.grad.any() for p in decoder.parameters()) for decoder in tasks.decoders]
        assert busy == [number == step % 4 for number in range(4)]
        assert all(p.grad is not None and p.grad.any() for p in network.parameters()), "the encoder is shared"
        answer = tasks.decoders[step % 4](network(x))
        assert loss.item() == pytest.approx(F.cross_entropy(answer, (y == step % 4).long()).item(), rel=1e-4)

    learner = learner_of("multiser", pretraining=FAST)
    before = weights(learner)
    learner.prepare(sources_of())
    after = weights(learner)
    assert {name for name, value in after.items() if torch.equal(value, before[name])} == {"head.weight", "head.bias"}


@pytest.mark.quick
def test_without_pretraining_a_network_knows_its_target_alone() -> None:
    learner = learner_of("joint")
    before = weights(learner)
    learner.prepare(sources_of())
    assert all(torch.equal(value, before[name]) for name, value in weights(learner).items())


@pytest.mark.parametrize("name", ["joint", "transser", "multiser", "fomaml"])
def test_tuning_leaves_the_learner_as_it_was_and_learns_the_task(name: str) -> None:
    tuning = FAST.model_copy(update={"epochs": 30, "patience": 10})
    learner = learner_of(name, tuning=tuning, **({} if name == "fomaml" else {"pretraining": FAST}))
    learner.prepare(sources_of())
    before, task = weights(learner), task_of()
    logits = learner.predict(task)
    assert (logits.argmax(dim=1) == task.query_y).float().mean() > 0.8
    assert torch.equal(logits, learner.predict(task)), "nothing about it is random"
    assert all(torch.equal(value, before[key]) for key, value in weights(learner).items())


def test_pretrained_baselines_do_not_learn_from_tasks() -> None:
    for name in ("joint", "svm", "speakers"):
        learner = learner_of(name)
        with pytest.raises(UserError, match="iterations: 0"):
            learner.meta_gradient(learner.engine.group([task_of()]))


@pytest.mark.quick
def test_the_svm_is_scikit_learns() -> None:
    task, sources = task_of(), sources_of()

    def expected(x: torch.Tensor, y: np.ndarray, penalty: float) -> np.ndarray:
        found = [np.concatenate([clip.mean(axis=1), clip.std(axis=1)]) for clip in x.double().numpy()]
        asked = [np.concatenate([clip.mean(axis=1), clip.std(axis=1)]) for clip in task.query_x.double().numpy()]
        model = make_pipeline(StandardScaler(), SVC(C=penalty, class_weight="balanced"))
        return model.fit(found, y).predict(asked)

    alone, both = learner_of("svm"), learner_of("svm-sources")
    for learner in (alone, both):
        learner.prepare(sources)
    y = task.support_y.numpy()
    assert (alone.predict(task).argmax(dim=1).numpy() == expected(task.support_x, y, 3.0)).all()
    labels = np.concatenate([y, [CLASSES.index(name) for name in sources.emotions]])
    assert (
        both.predict(task).argmax(dim=1).numpy() == expected(torch.cat([task.support_x, sources.x]), labels, 3.0)
    ).all()


def test_the_svms_penalty_is_chosen_without_the_source_that_it_is_tested_on() -> None:
    sources = sources_of(("aa", "bb"))
    learner = learner_of("svm-sources")
    learner.prepare(sources)
    x, y = clips_of(24, 0)  # what "aa" holds: with its clips beside the support set, these would be known
    asked = replace(task_of(), query_x=x, query_y=(y + 1) % 4, domain="aa")
    known = learner.answer(asked, 30.0)  # type: ignore[attr-defined]
    fair = learner.answer(asked, 30.0, without="aa")  # type: ignore[attr-defined]
    only = learner_of("svm-sources")
    only.prepare(Sources(sources.x[24:], sources.emotions[24:], sources.domains[24:], CLASSES))
    assert np.allclose(fair, only.answer(asked, 30.0))  # type: ignore[attr-defined]
    assert not np.allclose(known, fair)
    learner.finish(lambda number: replace(task_of(number), domain="aa"))
    scores = []
    for penalty in (0.3, 1.0, 3.0, 10.0, 30.0):
        answers = [learner.answer(task_of(n), penalty, "aa").argmax(axis=1) for n in range(9)]  # type: ignore[attr-defined]
        scores.append(
            np.mean([f1_score(task_of(n).query_y, answer, average="macro") for n, answer in enumerate(answers)])
        )
    assert learner.chosen["score"] == pytest.approx(max(scores))


def test_the_speakers_commonest_emotion_hears_nothing() -> None:
    task = replace(task_of(count=8), support_y=torch.tensor([0, 1, 2, 0, 1, 2, 3, 3]), support_speakers=(*"abcabc", "c", "d"),
                   query_speakers=tuple("abcdabcz"))  # fmt: skip
    learner = learner_of("speakers")
    answers = learner.predict(task)
    assert answers.argmax(dim=1)[:7].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert torch.allclose(answers.exp().sum(dim=1), torch.ones(8))
    silent = replace(task, query_x=task.query_x * 0 + 7, support_x=task.support_x * 0)
    assert torch.equal(learner.predict(silent), answers)
    commonest = torch.bincount(task.support_y, minlength=4) / 8
    assert torch.allclose(answers[7].exp(), commonest.float(), atol=1e-4), (
        "an unknown speaker: as often as in the support set"
    )


# --- Figure 2 ---


@pytest.mark.parametrize(
    ("one", "at"),
    [
        ([0, 0.5, 1.5, 3], 25.0),
        ([0, 2, 0, 2], 35.0),
        ([0, 1, 2, 2], 20.0),
        ([2, 2, 2, 2], np.nan),
        ([1, 1, 1, 1], np.nan),
        ([2, 2, 2, 0.5], np.nan),
    ],
)
def test_a_curve_overtakes_another_where_it_stays_ahead(one: list[float], at: float) -> None:
    places = [10, 20, 30, 40]
    found = crossing(pd.Series(one, places), pd.Series(1.0, places))
    assert found == pytest.approx(at, nan_ok=True)
