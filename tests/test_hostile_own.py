"""Hostile input in the files that metaser keeps for itself: checkpoints, stopped runs, results to draw anew.

As in `test_hostile`; a damaged checkpoint or cell is passed over and done anew, which gives what a whole run gives.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from matplotlib.figure import Figure

from metaser.config.folder import load
from metaser.experiment import Run, RunOptions
from metaser.reporting import plots
from metaser.reporting.finished import Finished
from metaser.reporting.tables import read_paper
from metaser.runtime import sealed
from metaser.runtime.errors import UserError
from metaser.runtime.sealed import DamagedError
from metaser.training import Position, checkpoint
from metaser.training.checkpoint import Checkpoints
from support import FMAML
from support.commands import metaser
from support.hostile.checkpoints import FACTS, TENSORS, other_files, resealed
from support.hostile.corpora import THINGS, remove
from support.hostile.family import Family, prepared
from support.hostile.inputs import JSON_VALUES, altered, damaged, mangled, noise
from support.networks import learner_of


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepared(tmp_path, monkeypatch)


# --- checkpoints ---


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real checkpoint, after two steps of training."""
    folder = tmp_path_factory.mktemp("kept")
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # all of it decides the file's bytes
    learner = learner_of()
    optimiser = torch.optim.Adam(learner.parameters())
    for _ in range(2):
        for parameter in learner.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
    Checkpoints(folder, [{"metric": "loss", "mean": 0.5}]).write(learner, optimiser, Position(2, 0.5, [1.0], [0.5]))
    return next(folder.glob("*.safetensors")).read_bytes()


def test_damaged_checkpoints(kept: bytes, ground: Path) -> None:
    path = ground / "own" / "000000002.safetensors"
    path.write_bytes(kept)
    whole, facts = sealed.read(path, checkpoint.FORMAT)

    def read() -> None:
        tensors, found = sealed.read(path, checkpoint.FORMAT)
        assert found == facts
        assert tensors.keys() == whole.keys()
        assert all(torch.equal(tensors[name], whole[name]) for name in whole)

    with Family("checkpoints", ground, refusals=(DamagedError,)) as family:
        for label, content in other_files(kept).items():
            path.write_bytes(content)
            family.attempt(label, read, path)
        for seed in range(200):
            path.write_bytes(damaged(kept, seed, head=int.from_bytes(kept[:8], "little")))
            family.attempt(seed, read, path)
        path.unlink()
        for label, make in THINGS.items():
            if label not in ("pipe", "deep folders"):
                make(path)
                family.attempt(label, read, path)
                remove(path)


def test_checkpoints_of_something_else(kept: bytes, ground: Path) -> None:
    """Whole files with a right digest that hold something else: they are passed over before anything is touched."""
    path = ground / "own" / "000000009.safetensors"
    path.write_bytes(kept)

    forged: dict[str, bytes] = {"cut off": kept[:-1]}
    for changes in (FACTS, TENSORS):
        for label, change in changes.items():
            tensors, facts = sealed.read(path, checkpoint.FORMAT)
            change(facts if changes is FACTS else tensors)
            forged[label] = resealed(tensors, json.dumps(facts))
    for text in ("null", "[]", "3", '{"position": 1}', "[" * 100_000):
        forged[text[:20]] = resealed(sealed.read(path, checkpoint.FORMAT)[0], text)

    def restored(older: bool) -> None:
        learner, rows = learner_of(), [{"metric": "before"}]
        optimiser = torch.optim.Adam(learner.parameters())
        before = [parameter.detach().clone() for parameter in learner.parameters()]
        torch.manual_seed(3), random.seed(3), np.random.seed(3)
        states = checkpoint.random_states(), torch.get_rng_state().tolist()
        position = Checkpoints(path.parent, rows).restore(learner, optimiser)
        if older:
            assert position == Position(2, 0.5, [1.0], [0.5])
            assert rows == [{"metric": "loss", "mean": 0.5}]
        else:
            assert position == Position()
            assert rows == [{"metric": "before"}]
            assert all(map(torch.equal, learner.parameters(), before))
            assert optimiser.state_dict()["state"] == {}
            assert (checkpoint.random_states(), torch.get_rng_state().tolist()) == states

    with Family("forged checkpoints", ground, output=path.parent) as family:
        for older in (False, True):
            for label, content in forged.items():
                path.write_bytes(content)
                if older:
                    path.with_name("000000002.safetensors").write_bytes(kept)
                family.attempt((label, older), partial(restored, older))


# --- runs ---


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages of one's own: four speakers, three emotions, two clips of each."""
    root = tmp_path_factory.mktemp("speech")
    clips = itertools.product(("aa", "bb"), "stuv", ("anger", "fear", "neutral"), "12")
    for seed, (language, speaker, emotion, take) in enumerate(clips):
        path = root / language / speaker / emotion / f"{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(seed=seed), 16000)
    return root


def tiny(speech: Path) -> tuple[str, ...]:
    """The settings of one small model."""
    corpora = ", ".join(f"{{name: {name}, path: {speech / name}, language: {name}}}" for name in ("aa", "bb"))
    return (f"data.collections.open.corpora=[{corpora}]", "data.use=open", "data.emotions=[anger, fear]", "data.targets=[aa]",
            "tasks.ways=2", "tasks.fixed=[neutral]", "tasks.shots=1", "tasks.queries=1", "tasks.fixed_queries=1",
            "training.iterations=2", "training.meta_batch=1", "training.monitor_every=1", "training.monitor_tasks=1",
            "evaluation.tasks=2", "evaluation.queries=1", "evaluation.min_queries=1", "evaluation.fixed_queries=1",
            "seeds=[0]", "compare=[fmaml]", "evaluation.steps=[0, 1]")  # fmt: skip


def tiny_run(speech: Path, results: Path) -> Run:
    return Run(FMAML, "5shot", tiny(speech), results, ["strict"], None, RunOptions(every=1))


@pytest.fixture(scope="module")
def finished(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run."""
    results = tmp_path_factory.mktemp("finished")
    chosen = [part for setting in tiny(speech) for part in ("--set", setting)]
    result = metaser("run", FMAML, "--variant", "5shot", "--protocol", "strict", "--results", results, *chosen)
    assert result.returncode == 0, result.stderr
    return results / "fmaml" / "5shot" / "real"


@pytest.fixture(scope="module")
def stopped(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run that was stopped when all was trained and nothing written."""
    results = tmp_path_factory.mktemp("stopped")
    run = tiny_run(speech, results)
    with contextlib.suppress(KeyboardInterrupt), run.writing():
        run.all_trials()
        raise KeyboardInterrupt
    return results


#: JSON that is no tree of ours.
NO_TREES = ("", "{}", "[]", "3", "null", "[" * 100_000, '{"a": ' * 100_000, "\x00", "1" * 9000, '{"settings": {}}')

#: The files that are the same to the byte whenever a run's numbers are.
REPEATED = ("metrics.csv", "tasks.csv", "summary.csv", "confusion.csv")


@pytest.mark.slow
def test_stopped_runs(speech: Path, stopped: Path, finished: Path, ground: Path) -> None:
    """What a stopped run left, damaged: refused by name, or done anew, and then it gives what a whole run gives."""
    results = ground / "here" / "results"
    partial = Path("fmaml", "5shot", "real.partial")
    (model,) = (path.relative_to(stopped) for path in (stopped / partial / "models").iterdir())
    facts = partial / "run.json"

    def resumed() -> None:
        run = tiny_run(speech, results)
        with run.writing() as folder:
            run.all_trials()
            run.write(folder)
        for name in REPEATED:
            assert (run.results.final / name).read_bytes() == (finished / name).read_bytes(), name

    with Family("stopped runs", ground, output=results) as family:
        for file, seeds in ((model, range(20)), (facts, range(10))):
            whole = (stopped / file).read_text()
            contents = [damaged(whole.encode(), seed, head=len(whole)) for seed in seeds]
            contents += [json.dumps(altered(json.loads(whole), seed, JSON_VALUES)).encode() for seed in seeds]
            contents += [text.encode() for text in NO_TREES]
            for number, content in enumerate(contents):
                shutil.copytree(stopped, results)
                (results / file).write_bytes(content)
                family.attempt((file.name, number, content[:40]), resumed, results / file, results / partial)
                remove(results)


# --- results, to be drawn anew ---

#: What a table's cell may turn into.
CELLS = ("", "x", "nan", "NA", "inf", "-1", "1e400", "9" * 400, "0", "a\nb", "é", '"')


def spoiled(finished: Path) -> Iterator[tuple[str, str, bytes]]:
    """A file of a finished run, what is wrong with it, and what it then holds."""
    for name in ("metrics.csv", "summary.csv", "confusion.csv"):
        whole = (finished / name).read_text()
        frame = pd.read_csv(finished / name, dtype=str, keep_default_na=False)
        frames = {
            "header": frame[:0],
            "first": frame[:1],
            "last": frame[-1:],
            "less": frame[1:],
            "twice": pd.concat([frame, frame]),
        }
        for column in frame.columns:
            frames[f"without {column}"] = frame.drop(columns=column)
            for number, cell in enumerate(CELLS[len(frames) % 2 :: 2]):
                changed = frame.copy()
                changed.loc[[len(frame) // 2] if number % 2 else changed.index, column] = cell
                frames[f"{column}: {cell[:9]!r}"] = changed
        for label, changed in frames.items():
            yield name, label, changed.to_csv(index=False).encode()
        for seed in range(20):
            yield name, f"damaged {seed}", damaged(whole.encode(), seed, head=len(whole))
            yield name, f"mangled {seed}", mangled(whole, seed)
    facts = json.loads((finished / "run.json").read_text())
    tree = {name: facts[name] for name in ("settings", "data")}  # no times, which would be others each time
    yield "run.json", "no settings", json.dumps({**tree, "settings": {}}).encode()
    titles = {**tree["data"], "domains": {name: [] for name in tree["data"]["domains"]}}
    yield "run.json", "titles of no text", json.dumps({**tree, "data": titles}).encode()
    for seed in range(80):
        yield "run.json", f"altered {seed}", json.dumps(altered(tree, seed, JSON_VALUES)).encode()
    for seed in range(20):
        yield "run.json", f"damaged {seed}", damaged(json.dumps(tree).encode(), seed, head=9000)
    for text in NO_TREES:
        yield "run.json", text[:9], text.encode()


@pytest.mark.slow
def test_results_to_draw(finished: Path, ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`metaser render` on CSV files and a `run.json` that are no longer what a run writes."""
    folder = ground / "here" / "copy"
    module, paper = load(FMAML), read_paper(FMAML / "paper.csv")
    paper = paper[paper["variant"] == "5shot"]
    monkeypatch.setattr(plots, "save", lambda figure, path: plt.close(figure))  # drawing takes most of the time
    monkeypatch.setattr(Figure, "tight_layout", lambda *_, **__: None)

    def render() -> None:
        given = sorted(os.listdir(folder))
        try:
            module.render(Finished(folder), paper)
        except UserError:
            assert sorted(os.listdir(folder)) == given
            raise
        finally:
            plt.close("all")
        assert (folder / "table.md").read_text(encoding="utf-8").startswith("# F-MAML and its baselines, ")

    with Family("results", ground, output=folder) as family:
        for name, label, content in spoiled(finished):
            shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("table.md", "*.png"))
            (folder / name).write_bytes(content)
            family.attempt((name, label), render, folder)
            remove(folder)


def test_results_to_draw_by_the_command(finished: Path, ground: Path) -> None:
    folder = ground / "here" / "copy"
    with Family("results, by the command", ground, output=folder) as family:
        for name in ("metrics.csv", "summary.csv", "confusion.csv", "run.json"):
            whole = (finished / name).read_bytes()
            for content in (b"", whole[: len(whole) // 2], b"\xff" * 99, b'a,b\n"', damaged(whole, 16)):
                shutil.copytree(finished, folder)
                (folder / name).write_bytes(content)
                family.command((name, content[:9]), lambda: metaser("render", FMAML, folder), folder, codes=(0, 2))
                remove(folder)
