"""Checkpoints: whole or absent, the last two kept, training goes on bit for bit; and runs that were killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metaser import algorithms, config, models
from metaser.algorithms import Learner
from metaser.reporting.folder import ResultsFolder
from metaser.reporting.kept import Kept, difference
from metaser.runtime import sealed
from metaser.runtime.errors import UnwritableError, UserError
from metaser.runtime.parallel import Workers
from metaser.runtime.sealed import DamagedError
from metaser.training import Position, checkpoint, train
from metaser.training.checkpoint import Checkpoints
from support import FMAML, REPOSITORY
from support.commands import STEPS, TASKS, environment
from support.limit import LIMIT
from support.networks import ALGORITHM, learner_of, stream

SETTINGS = config.Training(iterations=9, meta_batch=3, log_every=4)


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def training(folder: Path, stop_after: int = 0, every: int = 2) -> tuple[Learner, list[Any], dict[str, torch.Tensor]]:
    """Trains with checkpoints; ends after an iteration if told to. Learner, rows, and the last checkpoint's tensors."""
    learner, rows = learner_of(), []
    keeper = Checkpoints(folder, rows, iterations=every)

    def record(iteration: int, losses: list[float], accuracies: list[float]) -> None:
        rows.append({"iteration": iteration, "losses": list(losses), "accuracies": list(accuracies)})

    def tick(iteration: int) -> None:
        if iteration == stop_after:
            raise StoppedError

    with Workers(2) as pool:
        train(learner, stream(), SETTINGS, pool, record, tick=tick, keeper=keeper)
    return learner, rows, sealed.read(max(folder.glob("*.safetensors")), checkpoint.FORMAT)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, list[Any], dict[str, torch.Tensor]]:
    return training(tmp_path_factory.mktemp("whole"))


def assert_same(found: tuple, wanted: tuple) -> None:
    (learner, rows, tensors), (other, other_rows, other_tensors) = found, wanted
    assert rows == other_rows
    for mine, theirs in zip(learner.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert tensors.keys() == other_tensors.keys()
    for name in tensors:
        assert torch.equal(tensors[name], other_tensors[name]), name


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_training_goes_on_bit_for_bit(stop_after: int, whole: tuple, tmp_path: Path) -> None:
    """Weights, optimiser, rows of the curve: those of the run that was not stopped."""
    with pytest.raises(StoppedError):
        training(tmp_path, stop_after)
    assert_same(training(tmp_path), whole)


@pytest.mark.quick
def test_the_last_two_are_kept_and_nothing_else(whole: tuple, tmp_path: Path) -> None:
    training(tmp_path, every=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000006.safetensors", "000000008.safetensors"]


@pytest.mark.quick
@pytest.mark.parametrize("how", ["empty", "half", "changed", "another kind", "another network", "unfinished"])
def test_a_damaged_checkpoint_is_passed_over(how: str, whole: tuple, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        training(tmp_path, 7)
    older, newest = sorted(tmp_path.glob("*.safetensors"))
    data = newest.read_bytes()
    if how == "empty":
        newest.write_bytes(b"")
    elif how == "half":
        newest.write_bytes(data[: len(data) // 2])
    elif how == "changed":
        newest.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    elif how == "another kind":
        save_file({"x": torch.ones(2)}, newest)
    elif how == "another network":
        newest.write_bytes(older.read_bytes())
        small = algorithms.build(ALGORITHM, models.build("fmaml-conv", (8, 8), 5, 0))
        Checkpoints(tmp_path, []).write(small, torch.optim.Adam(small.parameters()), Position(iteration=9))
    else:
        newest.rename(newest.with_name(".00112233445566ff.tmp"))
    assert_same(training(tmp_path), whole)


@pytest.mark.quick
def test_random_states_come_back(tmp_path: Path) -> None:
    learner, rows = learner_of(), [{"mean": float("nan"), "metric": "loss"}]
    optimiser = torch.optim.Adam(learner.parameters())
    keeper = Checkpoints(tmp_path, rows)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    np.random.standard_normal()
    keeper.write(learner, optimiser, Position(iteration=5, seconds=0.1 + 0.2, losses=[1 / 3]))
    wanted = random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()
    rows.append({"metric": "later"})
    position = keeper.restore(learner, optimiser)
    assert (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()) == wanted
    assert position == Position(iteration=5, seconds=0.1 + 0.2, losses=[1 / 3])
    assert json.dumps(rows) == '[{"mean": NaN, "metric": "loss"}]'


def test_a_full_disk_is_one_line_and_the_earlier_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoppedError):
        training(tmp_path, 4)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableError, match="No space left on device"):
        training(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reading_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, data in (("a", b""), ("b", b"PK\x03\x04"), ("c", os.urandom(1000))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DamagedError):
            sealed.read(tmp_path / name, checkpoint.FORMAT)
    with pytest.raises(DamagedError):
        sealed.read(tmp_path / "missing", checkpoint.FORMAT)


# --- results folders ---


@pytest.mark.quick
def test_what_a_run_keeps_stays_however_it_ends(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "e" / "v" / "real")
    model = folder.path / "models" / "one.json"
    for error in (KeyboardInterrupt, UnwritableError, UserError, ValueError):

        def run(error: type[BaseException] = error) -> None:
            with folder.held():
                model.parent.mkdir(exist_ok=True)
                model.write_text("x")
                raise error

        with pytest.raises(error):
            run()
        assert model.read_text() == "x"


def test_checkpoints_of_another_configuration_are_refused_with_the_difference(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    (kept.begin("one", {"training": {"iterations": 100}, "seeds": [0]}) / "000000001.safetensors").write_text("x")
    with pytest.raises(UserError, match=r"training\.iterations: 100 there, 200 now.*--no-resume"):
        kept.find("one", {"training": {"iterations": 200}, "seeds": [0]})
    assert list(kept.checkpoints("one").glob("*.safetensors")), "nothing is lost by asking"
    assert kept.find("one", {"training": {"iterations": 100}, "seeds": [0]}) is None


def test_checkpoints_of_nobody_knows_which_configuration_are_not_used(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    (kept.begin("one", {"a": 1}) / "000000001.safetensors").write_text("x")
    (kept.checkpoints("one") / "identity.json").write_text("half")
    assert kept.find("one", {"a": 1}) is None
    assert not kept.checkpoints("one").exists()


@pytest.mark.quick
def test_two_runs_on_one_folder_are_one_line_and_the_first_goes_on(tmp_path: Path) -> None:
    first, second = (ResultsFolder(tmp_path / "e" / "v" / "real") for _ in range(2))
    with first.writing() as path:
        (path / "work").write_text("x")
        for _ in range(2):
            with pytest.raises(UserError, match="another run is writing it"), second.held():
                pass
        assert (path / "work").read_text() == "x"
    assert (first.final / "work").read_text() == "x"


@pytest.mark.quick
def test_differences_name_the_keys() -> None:
    before, now = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    assert difference(before, now) == ["a.c: [1] there, [2] now", "d: 2 there, None now", "e: None there, 3 now"]
    assert difference(before, before) == []


# --- killed ---

RUN = ("training.iterations=14", "training.meta_batch=2", "training.monitor_every=5", "training.monitor_tasks=1",
       "training.log_every=3", "evaluation.tasks=2", "seeds=[0, 1]", "data.targets=[x-dor]", "compare=[fmaml]",
       "evaluation.steps=[0, 2]", *STEPS, *TASKS)  # fmt: skip
FILES = ("metrics.csv", "tasks.csv", "summary.csv", "confusion.csv", "table.md", "convergence-loss.png", "accuracy.png",
         "confusion.png")  # fmt: skip

#: Imports metaser once, then runs a command line per line of its input in a process of its own (by fork, before any
#: thread is started), and answers with the process's number and, in the end, with how it ended.
STARTER = """
import json, os, sys
import matplotlib.pyplot, metaser.experiment, metaser.config.folder, metaser.reporting.plots
from metaser import cli
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["metaser", *json.loads(line)]
        try:
            cli.main()
        except SystemExit as leaving:
            os._exit(int(leaving.code or 0))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Starter:
    """Runs of metaser without the seconds that importing it takes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment(), cwd=REPOSITORY, start_new_session=True)  # fmt: skip

    def run(self, out: Path, kill_after: float | None = None) -> int:
        """A run into ``out``, killed after so many seconds if it takes longer; its exit code, -9 when killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        settings = [part for setting in RUN for part in ("--set", setting)]
        arguments = ["run", str(FMAML), "--variant", "5shot", "--protocol", "strict",
                     "--checkpoint-every", "3", "--results", str(out), *settings]  # fmt: skip
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            timer = threading.Timer(kill_after, lambda: os.kill(child, signal.SIGKILL))
            timer.start()
        code = int(self.process.stdout.readline())
        if kill_after is not None:
            timer.cancel()
            timer.join()
        return code


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    os.killpg(starter.process.pid, signal.SIGKILL)
    starter.process.communicate(timeout=LIMIT)


@pytest.fixture(scope="module")
def uninterrupted(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The results of a run that nobody stopped, and its seconds (of a second run, with the features in the cache)."""
    for name in ("first", "second"):
        out = tmp_path_factory.mktemp(name)
        began = time.monotonic()
        assert starter.run(out) == 0
    return out / "fmaml" / "5shot" / "synthetic", time.monotonic() - began


def assert_same_results(found: Path, wanted: Path) -> None:
    for name in FILES:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name
    weights = [json.loads((folder / "run.json").read_text())["weights_sha256"] for folder in (found, wanted)]
    assert weights[0] == weights[1]
    assert not list(found.parent.glob(".*")), "nothing is left beside the results"
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in wanted.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_runs_killed_at_random_moments_give_the_results_of_one_that_was_not(
    seed: int, starter: Starter, uninterrupted: tuple[Path, float], tmp_path: Path
) -> None:
    """Five kills each, 20 in all (``METASER_KILLS=100``: 100 in all), anywhere from the start to the last file."""
    wanted, seconds = uninterrupted
    rng, kills = random.Random(seed), int(os.environ.get("METASER_KILLS", "20")) // 4
    for _ in range(kills):
        code = starter.run(tmp_path, kill_after=rng.uniform(0, seconds))
        assert code in (0, -signal.SIGKILL)
        if code == 0:  # it had gone so far before that the rest took less than its time: begin anew
            assert_same_results(tmp_path / "fmaml" / "5shot" / "synthetic", wanted)
            shutil.rmtree(tmp_path / "fmaml")
    assert starter.run(tmp_path) == 0
    assert_same_results(tmp_path / "fmaml" / "5shot" / "synthetic", wanted)
