"""What every task must be, whatever the table: checked over random tables, shapes and seeds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import learn2learn
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaser.runtime.errors import UserError
from metaser.tasks import EpisodeSampler, TaskShape
from metaser.tasks.clips import held_out
from support.tasks import EMOTIONS, shape_of, tasks_of, utterances

pytestmark = pytest.mark.quick

shapes = st.builds(
    shape_of,
    ways=st.integers(2, 5),
    shots=st.integers(1, 4),
    queries=st.integers(1, 5),
    min_queries=st.integers(1, 2),
    fixed=st.sampled_from([(), ("silence",), ("neutral", "silence")]),
    order=st.sampled_from(["permuted", "fixed"]),
    speakers=st.sampled_from(["mixed", "disjoint"]),
)


@settings(max_examples=60)
@given(shapes, st.integers(0, 2**31), st.integers(12, 20), st.integers(4, 6), st.data())
def test_every_task_keeps_its_promises(
    shape: TaskShape, seed: int, clips: int, speakers: int, data: st.DataObject
) -> None:
    table = utterances(clips=clips, speakers=speakers)
    # Some recordings are there twice, in any two clips of one domain.
    for first, second in data.draw(
        st.lists(st.tuples(st.integers(0, clips - 1), st.integers(0, clips - 1)), max_size=2)
    ):
        table.loc[second, "group"] = table.loc[first, "group"]
    refusal = ""
    try:
        tasks = tasks_of(table, shape, seed)
        task = tasks.task(3, 1)
    except UserError as error:  # few clips and disjoint speakers may not fit: then by name, and in one line
        refusal = str(error)
    if refusal:
        assert "class " in refusal
        assert "\n" not in refusal
        return
    support, query = table.loc[task.support_index.numpy()], table.loc[task.query_index.numpy()]

    assert len(task.classes) == shape.ways + len(shape.fixed) == len(set(task.classes))
    assert task.classes[shape.ways :] == shape.fixed, "fixed classes take the last outputs"
    assert set(task.classes[: shape.ways]) <= set(EMOTIONS)
    assert list(support["emotion"]) == [task.classes[y] for y in task.support_y], "labels stand for the named classes"
    assert list(query["emotion"]) == [task.classes[y] for y in task.query_y]
    assert support["emotion"].value_counts().to_dict() == dict.fromkeys(task.classes[: shape.ways], shape.shots)
    assert not set(support["emotion"]) & set(shape.fixed), "a fixed class is never in the support set"
    for name, count in query["emotion"].value_counts().items():
        most = shape.fixed_queries if name in shape.fixed else shape.queries
        assert min(most, shape.min_queries) <= count <= most
    assert set(query["emotion"]) == set(task.classes)

    assert len(set(task.support_index.tolist()) | set(task.query_index.tolist())) == len(support) + len(query)
    assert not set(support["group"]) & set(query["group"]), "a recording is on one side only"
    assert set(support["domain"]) == {task.domain}
    assert set(query["domain"]) <= {task.domain, "*"}
    if shape.speakers == "disjoint":
        assert not set(support["speaker"]) & set(query.loc[query["domain"] != "*", "speaker"])
    if shape.order == "fixed":
        places = [EMOTIONS.index(name) for name in task.classes[: shape.ways]]
        assert places == sorted(places)
    assert torch.equal(task.support_x, tasks.x[task.support_index])
    assert torch.equal(task.query_x, tasks.x[task.query_index])


def test_a_task_depends_on_seed_stream_iteration_and_index_alone() -> None:
    table = utterances()
    forward = tasks_of(table, shape_of(), seed=5)
    wanted = [(i, j) for i in range(4) for j in range(3)]
    drawn = {key: forward.task(*key).query_index.tolist() for key in wanted}
    other = tasks_of(table, shape_of(), seed=5)
    other.sample()
    with ThreadPoolExecutor(3) as pool:
        again = dict(zip(reversed(wanted), pool.map(lambda key: other.task(*key), reversed(wanted)), strict=True))
    assert {key: again[key].query_index.tolist() for key in wanted} == drawn
    assert len({tuple(rows) for rows in drawn.values()}) == len(wanted)
    for different in (tasks_of(table, shape_of(), seed=6), tasks_of(table, shape_of(), seed=5, stream="test")):
        assert different.task(0, 0).query_index.tolist() != drawn[0, 0]


def test_permuted_labels_are_permuted_evenly_and_domains_drawn_evenly() -> None:
    tasks = tasks_of(utterances(), shape_of())
    drawn = [tasks.task(i, 0) for i in range(600)]
    first = pd.Series([task.classes[0] for task in drawn]).value_counts()
    assert set(first.index) == set(EMOTIONS)
    # 600 draws of 5: a standard deviation of 9.8 around 120; of 2 domains: 12.2 around 300.
    assert (first - 120).abs().max() < 50
    assert abs(sum(task.domain == "aa" for task in drawn) - 300) < 62


def test_shared_clips_of_training_and_test_have_no_speaker_in_common() -> None:
    table = utterances()
    seen = {}
    for part in ("train", "test"):
        tasks = tasks_of(table, shape_of(), part=part)
        rows = np.concatenate([tasks.task(i, 0).query_index.numpy() for i in range(60)])
        chosen = table.loc[rows]
        seen[part] = set(chosen.loc[chosen["emotion"] == "silence", "speaker"])
    assert seen["train"]
    assert seen["test"]
    assert not seen["train"] & seen["test"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"shots": 10}, ("aa: class fear has 12 clips", "10 support + 3 query")),
        ({"min_queries": 4, "queries": 30, "shots": 9}, ("9 support + 4 query",)),
        ({"fixed_queries": 30, "min_queries": 30, "queries": 1}, ("class neutral has 12 clips", "30 query clips")),
        ({"shots": 9, "queries": 3, "speakers": "disjoint", "fixed": ("silence",), "ways": 5, "min_queries": 4},
         ("other speakers",)),
        ({"ways": 6}, ("tasks.ways", "6 of 5 classes")),
    ],
)  # fmt: skip
def test_a_class_that_is_too_small_is_refused_by_name(changes: dict, parts: tuple[str, ...]) -> None:
    if "other speakers" in parts:
        changes = {**changes, "queries": 4, "shots": 8, "min_queries": 4}
        table = utterances(clips=12, speakers=2)
    else:
        table = utterances(clips=12)
    with pytest.raises(UserError) as caught:
        tasks_of(table, shape_of(**changes))
    for part in parts:
        assert part in str(caught.value)


def test_disjoint_speakers_need_speakers() -> None:
    table = utterances()
    table.loc[[0, 5], "speaker"] = ""
    tasks = tasks_of(table, shape_of(speakers="disjoint"))
    seen = {
        row
        for i in range(200)
        for row in (*tasks.task(i, 0).support_index.tolist(), *tasks.task(i, 0).query_index.tolist())
    }
    assert not {0, 5} & seen, "clips of unknown speakers are left out"
    assert {1, 2, 3} <= seen
    table.loc[table["domain"] == "bb", "speaker"] = ""
    with pytest.raises(UserError, match=r"bb: tasks.speakers: disjoint needs to know who speaks.*/bb/fear/0.wav"):
        tasks_of(table, shape_of(speakers="disjoint"))


def test_rows_are_named_by_the_tables_index() -> None:
    table = utterances()
    part = table.drop(index=[2, 3, 40])
    sampler = EpisodeSampler(part, ["aa"], EMOTIONS, shape_of(), "train")
    for seed in range(20):
        episode = sampler.draw(np.random.default_rng(seed))
        assert not {2, 3, 40} & {*episode.support_index, *episode.query_index}
        assert [episode.classes[y] for y in episode.query_y] == list(table.loc[episode.query_index, "emotion"])


def test_strict_training_never_sees_a_speaker_or_a_scene_of_the_target() -> None:
    """As EmoFilm has them: one corpus, several languages, speakers and dubbed scenes in more than one."""
    table = utterances(classes=("fear", "anger")).assign(corpus="film")
    table["text"] = [f"scene{n % 7}" if n % 3 else "" for n in range(len(table))]
    table["speaker"] = [f"s{n % 5}" if n % 4 else "" for n in range(len(table))]
    kept = held_out(table, "aa")
    target, others = kept[kept["domain"] == "aa"], kept[kept["domain"] != "aa"]
    assert len(target) == (table["domain"] == "aa").sum()
    assert set(others["speaker"]) <= {""}, "every speaker is in every language here"
    assert set(others["text"]) <= {""}
    assert len(others) > 0
    apart = table.assign(speaker=table["domain"] + table["speaker"], text=table["domain"] + table["text"])
    assert len(held_out(apart, "aa")) == len(apart)


def test_it_is_a_task_dataset_of_learn2learn() -> None:
    tasks = tasks_of(utterances(), shape_of(), num_tasks=4)
    assert isinstance(tasks, learn2learn.data.TaskDataset)
    assert isinstance(tasks.dataset, learn2learn.data.MetaDataset)
    assert len(tasks) == 4
    assert [task.query_index.tolist() for task in tasks] == [tasks[i].query_index.tolist() for i in range(4)]
    sampled = tasks.sample()
    assert any(sampled.query_index.tolist() == tasks[i].query_index.tolist() for i in range(4))
    with pytest.raises(IndexError):
        tasks[4]
    endless = tasks_of(utterances(), shape_of())
    assert endless.sample().query_index.tolist() != endless.sample().query_index.tolist()


def test_a_task_can_be_normalised_by_its_support_set_alone() -> None:
    table = utterances()
    plain, scaled = (tasks_of(table, shape_of(), 3, by_support=by).task(1, 0) for by in (False, True))
    assert scaled.support_x.mean(dim=(0, 2)).abs().max() < 1e-5
    assert (scaled.support_x.std(dim=(0, 2), correction=0) - 1).abs().max() < 1e-5
    mean, deviation = plain.support_x.mean(dim=(0, 2)), plain.support_x.std(dim=(0, 2), correction=0)
    assert torch.allclose(scaled.query_x, (plain.query_x - mean[:, None]) / deviation[:, None], atol=1e-5)
