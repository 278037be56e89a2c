"""One clip per class: every learner, and every method of every table that has shots, trains and answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax

from metaser import models
from metaser.algorithms.base import NonMetaLearner, Sources
from metaser.algorithms.fitting import hold_out
from metaser.algorithms.fmaml import FixedClasses
from metaser.baselines import Classical
from metaser.config.study import Study
from metaser.corpora.selection import Selection
from metaser.experiment.trial import TrialRun
from metaser.experiment.trials import Trial, Trials
from metaser.features import FeatureSet
from metaser.runtime.parallel import Workers
from metaser.tasks import EpisodeSampler, SpeechTasks, TaskShape
from metaser.training import learners, methods
from metaser.training.checkpoint import Checkpoints
from metaser.training.methods import LEARNERS
from support import REPOSITORY
from support.tasks import EMOTIONS, features_of, toy_task, utterances

FIT = {"epochs": 2, "batch": 4}

#: What learners need or may have beside their name.
MORE = {
    "regmaml": {"lambda_ratio": 0.1},
    "joint": {"pretraining": FIT, "tuning": FIT},
    "transser": {"pretraining": FIT, "tuning": {**FIT, "layers": "dense"}},
    "multiser": {"pretraining": FIT, "tuning": {**FIT, "head": "prototypes"}},
    "maml": {"ensemble": 2},
    "fomaml": {"tuning": FIT},
    "gaussian": {"gaussian": {"own": [0.2, 0.5], "prior": [10, 30]}},
}


@pytest.mark.parametrize("speakers", ["mixed", "disjoint"])
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_from_one_clip_per_class(name: str, speakers: str) -> None:
    """F-MAML without clips of the fixed classes, all others with one each."""
    table, fixed = utterances(clips=9, speakers=3), ("neutral", "silence")
    x, emotions = features_of(table, shape=(4, 6)), list(table["emotion"])
    shape = TaskShape(
        ways=5, shots=1, queries=2, min_queries=1, fixed=fixed, fixed_queries=2, fixed_shots=1, speakers=speakers
    )
    sampler = EpisodeSampler(table, ["aa", "bb"], EMOTIONS, shape, "train")
    who = list(table["corpus"] + "/" + table["speaker"])

    def stream(kind: str) -> SpeechTasks:
        transforms = [FixedClasses(fixed, in_support=name != "fmaml")]
        return SpeechTasks(x, emotions, sampler, 0, kind, order="fixed", speakers=who, task_transforms=transforms)

    settings = methods.configured(
        name, **({"inner_lr": 0.05} if "inner_lr" in methods.fields(name) else {}), **MORE.get(name, {})
    )
    networks = [models.build("metaser-lstm", (4, 6), 7, seed) for seed in range(settings.ensemble)]
    learner = learners.build(settings, networks)
    rows = table.index[table["domain"] != "cc"]
    learner.prepare(
        Sources(x[rows], [emotions[row] for row in rows], list(table.loc[rows, "domain"]), (*EMOTIONS, *fixed))
    )
    if not isinstance(learner, NonMetaLearner | learners.Tuned):
        group = learner.engine.group([stream("train").task(0, 0)])
        found = learner.meta_gradient(group)
        assert np.isfinite(found.losses).all()
        assert all(gradient.isfinite().all() for gradient in found.gradients)
    learner.finish(lambda number: stream("choice").task(0, number))
    for number in range(3):
        task = stream("test").task(0, number)
        assert task.support_y.bincount(minlength=7).tolist() == ([1] * 5 + [0] * 2 if name == "fmaml" else [1] * 7)
        logits = learner.predict(task)
        assert logits.shape == (len(task.query_y), 7)
        assert logits.isfinite().all()


def rows() -> list[tuple[str, str, str]]:
    """Experiment, variant and method of every table of speech, of methods that differ by a rate alone one."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for path in sorted((REPOSITORY / "experiments").glob("*/config.yaml")):
        study = Study(path, methods)
        for variant in study.variants:
            settings = study.experiment(variant=variant, protocol=study.protocols[-1])
            for label, own in settings.algorithms.items() if not settings.data.images else ():
                key = own.model_dump_json(exclude={"inner_lr", "outer_lr", "lambda_", "lambda_ratio"})
                found.setdefault((path.parent.name, key), (path.parent.name, variant, label))
    return list(found.values())


@pytest.mark.parametrize(("experiment", "variant", "label"), rows(), ids=str)
def test_every_method_of_a_table_can_be_given_one_clip_per_class(
    experiment: str, variant: str, label: str, tmp_path: Path
) -> None:
    study = Study(REPOSITORY / "experiments" / experiment / "config.yaml", methods)
    protocol = study.protocols[-1]
    small = (
        "tasks.shots=1", "tasks.queries=3", "training.iterations=1", "training.meta_batch=1", "training.monitor_every=0",
        "evaluation.tasks=2", "evaluation.queries=3", "evaluation.min_queries=1", "evaluation.steps=[]",
        "data.sources=[]", "data.source_sets=[]", "data.targets=[]", f"compare=[{label}]",
    )  # fmt: skip
    settings = study.experiment(variant=variant, protocol=protocol, overrides=small)
    if settings.tasks.fixed_shots:
        settings = study.experiment(variant=variant, protocol=protocol, overrides=(*small, "tasks.fixed_shots=1"))
    own = settings.algorithms[label]
    short = {key: fit.model_copy(update={"epochs": 1}) for key in ("pretraining", "tuning") if (fit := own.fit(key))}
    settings = settings.model_copy(update={"algorithms": {label: own.model_copy(update=short)}})
    own_classes = [name for name in settings.tasks.fixed if name != "silence"]
    table = utterances(clips=12, speakers=4, classes=(*settings.data.emotions, *own_classes))
    trials = Trials({protocol: settings}, Selection("made up", "real", table, ("aa", "bb", "cc"), {}), ["cc"], variant)
    trial = Trial(protocol, label, "cc", 0)
    shape = {"functionals": (20, 1)}.get(trials.of(trial).features.recipe, (20, 60))
    features = FeatureSet(features_of(table, shape=shape), torch.full((len(table),), shape[1]), table, "made up")
    with Workers(1) as workers:
        work = TrialRun(trials, trial, features, workers)
        work.train(lambda done: None, Checkpoints(tmp_path, []))
        work.test("cc")
    scores = pd.DataFrame(work.scores)
    assert len(scores) == 2
    assert np.isfinite(scores["loss"]).all()


def test_with_one_clip_per_class_lda_takes_the_sources_covariance() -> None:
    """Along the direction in which clips of any class vary most, a difference from the support clips says least."""
    rng = np.random.default_rng(0)
    means = {"a": [0.0, 0.0], "b": [4.0, 0.4]}
    names = ["a", "b"] * 200
    x = np.array([means[name] for name in names]) + rng.normal(size=(400, 2)) * [5.0, 0.1]
    learner = Classical(models.build("mlp", (2, 1), 2, 0), methods.configured("classical"))
    learner.prepare(Sources(torch.from_numpy(x)[:, :, None], names, ["s"] * 200 + ["t"] * 200, ("a", "b")))
    support, y = np.array([[4.0, 0.4], [0.0, 0.0]]), np.array([1, 0])
    query = np.array([[0.0, 0.4], [4.0, 0.0]])
    found = learner.near(support, y, query)
    inverse = np.linalg.inv(learner.covariance)
    distances = np.array([[(q - m) @ inverse @ (q - m) for m in ([0.0, 0.0], [4.0, 0.4])] for q in query])
    assert found == pytest.approx(log_softmax(-0.5 * distances, axis=1), abs=1e-6)
    assert found.argmax(axis=1).tolist() == [1, 0], "the narrow direction decides"
    assert np.diag(learner.covariance) == pytest.approx([25.0, 0.01], rel=0.5)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 3, 4)])
def test_a_class_of_one_clip_is_trained_on_and_not_held_out(sizes: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(3), sizes)
    for speakers in ((), [f"s{n % 2}" for n in range(len(y))]):
        kept, held = hold_out(y, 0.2, 0, speakers)
        assert sorted([*kept, *held]) == list(range(len(y)))
        assert set(y[kept]) == {0, 1, 2}
        assert set(y[held]) == {label for label, size in enumerate(sizes) if size > 1}


def test_that_nothing_can_be_held_out_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    from metaser.runtime.progress import say_once

    say_once.cache_clear()
    task = toy_task(shots=1)
    for _ in range(2):
        hold_out(task.support_y.numpy(), 0.2, 0)
    assert capsys.readouterr().err.count("one clip per class") == 1
