"""Models side by side in processes: the same bits as one after another, and no process is ever left or waited for in vain."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from metaser.experiment import Run, RunOptions, training
from metaser.experiment.runner import Job
from metaser.experiment.training import grouped
from metaser.experiment.trials import Trial, Trials
from metaser.runtime.errors import StoppedError
from support import REPOSITORY, tiny_runs
from support.commands import assert_refused, metaser
from support.tiny_runs import assert_same, command, final, kept, partial

#: Long enough to be stopped in the middle, short enough to be waited for.
LONG = ("training.iterations=4000", "training.monitor_every=0", "training.log_every=1000")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.plain(tmp_path_factory.mktemp("experiment") / "plain")


@pytest.fixture(scope="module")
def whole(plain: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the same run, one model after another."""
    results = tmp_path_factory.mktemp("whole")
    assert metaser(*command(plain, speech, results)).returncode == 0
    return final(results)


def facts(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run.json").read_text())


def test_side_by_side_gives_the_same_bits(plain: Path, speech: Path, whole: Path, tmp_path: Path) -> None:
    assert metaser(*command(plain, speech, tmp_path, processes=2)).returncode == 0
    assert_same(final(tmp_path), whole)
    assert facts(final(tmp_path))["weights_sha256"] == facts(whole)["weights_sha256"]
    assert (facts(whole)["processes"], facts(final(tmp_path))["processes"]) == (1, 2)


def test_a_model_that_fails_in_a_process_stops_no_other(plain: Path, speech: Path, tmp_path: Path) -> None:
    wild = "algorithms.fomaml={name: fomaml, inner_lr: 1.0e+6, outer_lr: 1.0e+6, steps: 5}"
    result = metaser(*command(plain, speech, tmp_path, wild, processes=2))
    assert result.returncode == 1
    assert any("strict, aa, fomaml, seed 0: " in line and "diverged" in line for line in result.stderr.splitlines())
    assert "Traceback" not in result.stderr
    assert kept(tmp_path) == {"fmaml", "supervised"}


def meanwhile(act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Does something once, when a process has told of its first iteration."""
    side_by_side = training.side_by_side

    def watched(starts: Sequence, groups: Sequence, ticked: Callable, ended: Callable) -> None:
        done = threading.Event()

        def first(trial: Trial, iteration: int) -> None:
            ticked(trial, iteration)
            if not done.is_set():
                done.set()
                act()

        side_by_side(starts, groups, first, ended)

    patch.setattr(training, "side_by_side", watched)


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_model_that_failed(plain: Path, speech: Path, tmp_path: Path) -> None:
    """As the system does where memory is short; the others go on, and the same command does what is left."""

    def kill() -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    run = command(
        plain, speech, tmp_path, "algorithms.fmaml.iterations=200", "algorithms.fomaml.iterations=200", processes=2
    )
    with pytest.MonkeyPatch.context() as patch:
        meanwhile(kill, patch)
        result = metaser(*run)
    assert result.returncode == 1, result.stderr
    assert "was killed (signal SIGKILL)" in result.stderr
    assert "enough memory" in result.stderr
    assert len(kept(tmp_path)) == 2
    assert not multiprocessing.active_children()
    assert metaser(*run).returncode == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoppedError])
def test_stopping_ends_every_process_and_the_same_command_goes_on(
    error: type[BaseException], plain: Path, speech: Path, tmp_path: Path
) -> None:
    def stop() -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        meanwhile(stop, patch)
        began = time.monotonic()
        result = metaser(*command(plain, speech, tmp_path, *LONG, processes=2), "--checkpoint-every", "1")
    assert result.returncode == (130 if error is KeyboardInterrupt else 2)
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 250
    assert list(partial(tmp_path).glob("checkpoints/*/*.safetensors"))
    assert not list(partial(tmp_path).rglob("*.tmp"))
    assert not (partial(tmp_path) / "shared").exists()


@pytest.mark.slow
def test_a_stopped_run_side_by_side_goes_on_to_the_same_bits(plain: Path, speech: Path, tmp_path: Path) -> None:
    more = ("training.iterations=30", "training.monitor_every=0", "training.log_every=7")
    assert metaser(*command(plain, speech, tmp_path / "whole", *more)).returncode == 0

    def stop() -> None:
        raise KeyboardInterrupt

    run = [*command(plain, speech, tmp_path / "r", *more, processes=2), "--checkpoint-every", "1"]
    with pytest.MonkeyPatch.context() as patch:
        meanwhile(stop, patch)
        assert metaser(*run).returncode == 130
    assert metaser(*run).returncode == 0
    assert_same(final(tmp_path / "r"), final(tmp_path / "whole"))


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(plain: Path, speech: Path, tmp_path: Path) -> None:
    """Also where it is killed; the next run then finds what they had finished."""
    variables = {name: value for name, value in os.environ.items() if name != "METASER_DATA"}
    arguments = [*command(plain, speech, tmp_path, *LONG, processes=2), "--checkpoint-every", "1"]
    with subprocess.Popen([sys.executable, "-m", "metaser", *arguments], env=variables, cwd=REPOSITORY,
                          stderr=subprocess.DEVNULL) as running:  # fmt: skip
        limit = time.monotonic() + 240
        while running.poll() is None and time.monotonic() < limit:
            if len(list(partial(tmp_path).glob("checkpoints/*/*.safetensors"))) > 1:
                break
            time.sleep(0.1)
        children = descendants(running.pid)
        running.kill()
    assert len(children) > 2
    while any(alive(child) for child in children) and time.monotonic() < limit + 60:
        time.sleep(0.1)
    assert not [child for child in children if alive(child)]


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False, timeout=30
    )
    children = [int(line) for line in listed.stdout.split()]
    return [*children, *(below for child in children for below in descendants(child))]


def alive(pid: int) -> bool:
    """Whether a process runs (and is no mere entry that nobody has asked about)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("wanted", ["-1", "two", "1.5"])
def test_a_number_of_processes_that_makes_no_sense_is_refused(
    wanted: str, plain: Path, speech: Path, tmp_path: Path
) -> None:
    result = metaser(*command(plain, speech, tmp_path), "--processes", wanted)
    assert result.returncode == 2
    assert "processes" in result.stderr
    assert not partial(tmp_path).exists()


def test_profiling_looks_at_one_model_after_another(plain: Path, speech: Path, tmp_path: Path) -> None:
    result = metaser(*command(plain, speech, tmp_path, processes=2), "--profile")
    assert_refused(result, "--processes", "--profile", "one after another")
    result = metaser(*command(plain, speech, tmp_path, "training.iterations=9", processes=0), "--profile")
    assert result.returncode == 0
    assert "meta-iterations of the first model" in (final(tmp_path) / "profile.txt").read_text()
    assert facts(final(tmp_path))["processes"] == 1


def test_by_itself_a_run_takes_as_many_processes_as_there_are_cores_and_models(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "available_cores", lambda: 4)
    one = (tiny_runs.FMAML, "5shot", tiny_runs.settings(speech), tmp_path, ["strict"])
    assert [Run(*one)._processes(groups) for groups in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert [Run(*one, options=RunOptions(processes=6))._processes(groups) for groups in (1, 9)] == [1, 6]


def test_models_that_share_their_pretraining_share_a_process(speech: Path, tmp_path: Path) -> None:
    shared = "{epochs: 2, batch: 4}"
    own = "{epochs: 3, batch: 4}"
    run = Run(tiny_runs.FMAML, "5shot", tiny_runs.settings(
        speech, *(f"algorithms.{label}={{name: supervised, pretraining: {how}}}"
                  for label, how in (("one", shared), ("two", own), ("three", shared))), "seeds=[0, 1]",
        compare=("fmaml", "one", "two", "three")), tmp_path, ["strict"])  # fmt: skip
    groups = [[(trial.trial.algorithm, trial.trial.seed) for trial in group] for group in
              grouped([Job(trial, {}) for trial in run.trials.all()], run.trials)]  # fmt: skip
    assert groups == [
        [("fmaml", 0)], [("one", 0), ("three", 0)], [("two", 0)], [("fmaml", 1)], [("one", 1), ("three", 1)], [("two", 1)],
    ]  # fmt: skip


def test_only_what_a_process_needs_is_packed(speech: Path, tmp_path: Path) -> None:
    """Features travel as files, whatever their size."""
    from metaser.experiment.runner import Runner
    from metaser.reporting.kept import Kept

    run = Run(tiny_runs.FMAML, "5shot", tiny_runs.settings(speech), tmp_path, ["strict"])
    runner = Runner(run.trials, run._features, Kept(tmp_path / "kept"), 0, {})
    packed = runner.pack([Job(Trial("strict", "fmaml", "aa", 0), {})], tmp_path / "shared")
    features = next(iter(run._features.values()))
    assert len(packed) < features.x.numel() * 4 / 4
    again = Runner.unpack(packed)
    assert isinstance(again.trials, Trials)
    assert again.trials.settings == run.trials.settings
    assert (next(iter(again.features.values())).x == features.x).all()
