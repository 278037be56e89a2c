"""Sweeps: a failed cell stops no other, what is done is never done again, and the whole is what one run would give."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metaser.experiment import pool
from metaser.experiment.sweep import executors, slurm
from metaser.experiment.sweep.cell import Cell, work
from metaser.experiment.sweep.grid import grid
from metaser.experiment.sweep.settings import Sweep, read
from metaser.reporting.paired import PAIRED, holm, paired
from metaser.reporting.results import KEYS
from metaser.runtime.files import alone
from support import FMAML
from support.commands import Result, assert_refused, command, metaser, start
from support.limit import LIMIT, until
from support.sweeps import SMALL, attempts, cells_of, sweep

INNER = {"name": "fomaml", "inner_lr": 0.1, "steps": 5}
INLINE: dict[str, dict[str, Any]] = {
    "half": {**INNER, "inner_lr": 0.05}, "second": {**INNER, "name": "maml", "steps": 2}, "fmaml": {"steps": 2},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def without_corpora() -> Iterator[None]:
    """All sweeps here are of the synthetic corpus, whatever is at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("METASER_DATA", raising=False)
        yield


def algorithms(hot: float) -> list[dict[str, Any]]:
    return [{label: settings} for label, settings in {**INLINE, "hot": {**INNER, "inner_lr": hot}}.items()]


def state(folder: Path) -> dict[str, int]:
    """Every file of every cell, with the time at which it was last written."""
    cells = folder / "results" / "sweeps" / "tiny" / "cells"
    return {
        str(path.relative_to(cells)): path.stat().st_mtime_ns for path in sorted(cells.rglob("*")) if path.is_file()
    }


@dataclasses.dataclass
class Stages:
    """A sweep of which two cells fail: the first time, again, and mended; the files after each."""

    folder: Path
    first: Result
    again: Result
    mended: Result
    states: list[dict[str, int]]
    merged: dict[str, str]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    folder = tmp_path_factory.mktemp("sweep")
    merged = folder / "results" / "sweeps" / "tiny"
    results, states, first = [], [], {}
    for hot in (1e6, 1e6, 0.1):
        results.append(sweep(folder, algorithms=algorithms(hot)))
        states.append(state(folder))
        first = first or {path.name: path.read_text() for path in merged.iterdir() if path.is_file()}
    return Stages(folder, results[0], results[1], results[2], states, first)


def test_two_cells_that_fail_stop_no_other_and_are_named(stages: Stages) -> None:
    assert stages.first.returncode == 1, stages.first.stderr
    assert "6 of 8 cells are done" in stages.first.stdout
    assert "2 of the cells failed" in stages.first.stderr
    rows = [line for line in stages.first.stderr.splitlines() if "diverged" in line]
    assert [f"5shot, paper, hot, x-ako, seed {seed}" in row for seed, row in enumerate(rows)] == [True, True]
    for row in rows:
        assert "lower inner_lr" in row
        log = Path(row.split("|")[-2].strip())
        assert "diverged" in log.read_text()
    assert sum(name.endswith("results/tasks.csv") for name in stages.states[0]) == 6
    assert "6 of 8 cells" in stages.merged["table.md"]
    assert "**2 missing**" in stages.merged["table.md"]
    facts = json.loads(stages.merged["run.json"])
    found = [cell["state"] for cell in facts["cells"]]
    assert (found.count("done"), found.count("failed")) == (6, 2)
    assert all("diverged" in cell["error"] for cell in facts["cells"] if cell["state"] == "failed")
    assert {"commit", "versions", "hardware", "sweep"} <= facts.keys()


def test_run_again_it_does_only_the_two_that_failed(stages: Stages) -> None:
    before, after, _ = stages.states
    assert stages.again.returncode == 1
    assert "8 cells, 6 of them done before" in stages.again.stderr
    changed = {name for name in after if after[name] != before.get(name)}
    assert {Path(name).name for name in changed} == {"log.txt", "error.txt"}
    assert len(changed) == 4
    cells = stages.folder / "results" / "sweeps" / "tiny" / "cells"
    assert {name for name in after if name.endswith("log.txt") and attempts(cells / name) > 1} == {
        name for name in changed if name.endswith("log.txt")
    }


def test_with_the_two_mended_it_finishes(stages: Stages) -> None:
    _, before, after = stages.states
    assert stages.mended.returncode == 0, stages.mended.stderr
    assert "8 of 8 cells are done" in stages.mended.stdout
    assert before.items() <= after.items(), "a changed setting is a new cell; nothing that was there is touched"
    assert len({name.split("/")[0] for name in after}) == 10
    merged = stages.folder / "results" / "sweeps" / "tiny"
    assert "8 of 8 cells" in (merged / "table.md").read_text()
    assert not list(merged.rglob("*.tmp"))
    assert not list(merged.rglob("results.partial"))


def test_the_merged_results_are_those_of_one_run(stages: Stages, tmp_path: Path) -> None:
    """The same test tasks, the same numbers: one run of all algorithms and seeds."""
    labels = [label for entry in algorithms(0.1) for label in entry]
    chosen = [*SMALL, "data.targets=[x-ako]", "seeds=[0, 1]", *(f"algorithms={json.dumps(a)}" for a in algorithms(0.1)),
              f"compare={json.dumps(labels)}"]  # fmt: skip
    settings = [part for setting in chosen for part in ("--set", setting)]
    result = metaser(
        "run", stages.folder / "plain", "--variant", "5shot", "--protocol", "paper", "--results", tmp_path, *settings
    )
    assert result.returncode == 0, result.stderr
    merged, whole = stages.folder / "results" / "sweeps" / "tiny", tmp_path / "fmaml" / "5shot" / "synthetic"
    keys = [*KEYS, "metric"]
    ours, one = (pd.read_csv(folder / "summary.csv").sort_values(keys, ignore_index=True) for folder in (merged, whole))
    assert list(ours.columns) == list(one.columns)
    pd.testing.assert_frame_equal(ours, one, rtol=0, atol=5e-6)
    assert (ours["mean"] - one["mean"]).abs().max() < 1.1e-6, "both files have six digits"
    keys = [*KEYS, "seed", "split", "iteration", "metric"]
    ours, one = (pd.read_csv(folder / "metrics.csv").sort_values(keys, ignore_index=True) for folder in (merged, whole))
    pd.testing.assert_frame_equal(ours, one)
    tests = pd.read_csv(merged / "paired.csv")
    assert list(tests.columns) == list(PAIRED)
    assert len(tests) == 6 * 6, "metrics × pairs of four algorithms"
    means = pd.read_csv(merged / "summary.csv").set_index(["algorithm", "metric"])["mean"]
    for test in tests.to_dict("records"):
        gap = means[test["algorithm"], test["metric"]] - means[test["against"], test["metric"]]
        assert test["difference"] == pytest.approx(gap, abs=3e-6)


@pytest.mark.slow
def test_a_cell_without_all_its_files_is_run_again(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, experiment=str(FMAML), seeds=[0])
    assert sweep(tmp_path, experiment=str(FMAML), seeds=[0]).returncode == 0
    assert cell.done
    assert (cell.results / "accuracy.png").exists(), "it is a whole run"
    (cell.results / "tasks.csv").unlink()
    assert not cell.done
    again = sweep(tmp_path, experiment=str(FMAML), seeds=[0])
    assert again.returncode == 0, again.stderr
    assert "1 cells, 0 of them done before" in again.stderr
    assert cell.done


@pytest.mark.slow
def test_what_decides_the_numbers_decides_the_hash_and_nothing_else_does(tmp_path: Path) -> None:
    keys = {cell.key for cell in cells_of(tmp_path)}
    assert len(keys) == 2
    assert {cell.key for cell in cells_of(tmp_path, workers=2, checkpoint_every=7, name="other")} == keys
    assert {cell.key for cell in cells_of(tmp_path, seeds=[1, 0, 2])} > keys
    assert {cell.key for cell in cells_of(tmp_path, algorithms=["fmaml", {"more": INNER}])} > keys
    for changes in (
        {"set": [*SMALL, "training.outer_lr=0.002"]}, {"set": [*SMALL, "engine.precision=bfloat16"]},
        {"protocols": ["strict"]}, {"variants": ["10shot"]}, {"targets": ["x-bel"]}, {"seeds": [2]},
        {"algorithms": [{"fmaml": {"steps": 4}}]},
    ):  # fmt: skip
        assert not {cell.key for cell in cells_of(tmp_path, **changes)} & keys, changes


def test_a_configuration_that_changed_meanwhile_is_no_result(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, seeds=[0])
    other = dataclasses.replace(cell, overrides=(*cell.overrides, "training.outer_lr=0.5"))
    assert not work(other)
    assert "not what the sweep was made from (settings.training.outer_lr: 0.001 there, 0.5 now)" in other.error()
    assert not cell.done


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"algorithm": ["fmaml"]}, ["unknown key algorithm", "'algorithms'"]),
        ({"slurm": {"partion": "long"}}, ["unknown key slurm.partion", "'partition'"]),
        ({"slurm": {"time_min": "2h"}}, ["slurm.time_min", "'2h'"]),
        ({"slurm": {"time_min": 1}}, ["slurm.time_min", "equal to 5", "not 1"]),
        ({"slurm": {"mem_gb": 0}}, ["slurm.mem_gb", "not 0"]),
        ({"seeds": "0"}, ["seeds", "tuple", "not '0'"]),
        ({"seeds": [0, -1]}, ["seeds.1", "not -1"]),
        ({"seeds": [1, 1]}, ["seeds: 1 is there twice"]),
        ({"seeds": []}, ["seeds", "is empty", "leave the key out"]),
        ({"algorithms": []}, ["algorithms", "is empty"]),
        ({"algorithms": [{}]}, ["algorithms.0", "give a name, or one label"]),
        ({"algorithms": [{"a": {}, "b": {}}]}, ["algorithms.0", "give a name, or one label"]),
        ({"algorithms": [3]}, ["algorithms.0", "not 3"]),
        ({"algorithms": ["fmaml", {"fmaml": {"steps": 2}}]}, ["algorithms: 'fmaml' is there twice"]),
        ({"algorithms": ["fmalm"]}, ["algorithms", "'fmalm'", "did you mean 'fmaml'?"]),
        ({"algorithms": [{"mine": {"steps": 2}}]}, ["missing key algorithms.mine.name"]),
        ({"algorithms": [{"mine": {**INNER, "steps": 0}}]}, ["algorithms.mine.steps", "not 0"]),
        ({"algorithms": [{"mine": {**INNER, "name": "fomalm"}}]}, ["algorithms.mine.name", "'fomaml'"]),
        ({"variants": ["6shot"]}, ["unknown variant '6shot'", "5shot"]),
        ({"protocols": ["strickt"]}, ["unknown protocol 'strickt'", "'strict'"]),
        ({"targets": ["x-dro"]}, ["no domain 'x-dro'", "'x-dor'"]),
        ({"set": ["training.iteration=1"]}, ["unknown key training.iteration", "'iterations'"]),
        ({"set": ["training"]}, ["training", "give key=value"]),
        ({"set": ["tasks.shots=70"]}, ["class ", "70 support"]),
        ({"executor": "slrum"}, ["executor", "'slurm'", "'slrum'"]),
        ({"workers": 0}, ["workers", "not 0"]),
        ({"name": "../elsewhere"}, ["name", "'../elsewhere'"]),
        ({"experiment": "experiments/none"}, ["experiment", "experiments/none", "run.py"]),
        ({"experiment": None}, ["missing key experiment"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_runs_nothing(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    result = sweep(tmp_path, **changes)
    assert_refused(result, "tiny.yaml", *parts)
    assert not (tmp_path / "results").exists()


@pytest.mark.quick
def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    assert_refused(metaser("sweep", tmp_path / "none.yaml"), "none.yaml", "cannot be read")
    (tmp_path / "odd.yaml").write_text("seeds: [0\n")
    assert_refused(metaser("sweep", tmp_path / "odd.yaml"), "odd.yaml", "not valid YAML")
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert_refused(metaser("sweep", tmp_path / "list.yaml"), "list.yaml", "must be a mapping")


def test_slurm_is_asked_for_only_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_refused(sweep(tmp_path, executor="slurm"), "no Slurm on this machine", "sbatch", "executor: local")
    assert not (tmp_path / "results").exists()


def test_without_submitit_slurm_is_refused_in_a_line_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in slurm.COMMANDS:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert_refused(sweep(tmp_path, executor="slurm"), "executor: slurm", "submitit", "pip install", "executor: local")
    result = sweep(tmp_path, executor="debug", seeds=[0])
    assert result.returncode == 0, result.stderr


def test_two_sweeps_do_not_write_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "sweeps" / "tiny"
    folder.mkdir(parents=True)
    with alone(folder, "sweep"):
        assert_refused(sweep(tmp_path, executor="debug", seeds=[0]), str(folder), "another sweep is writing it")
    assert not (folder / "cells").exists()


@pytest.mark.slow
def test_the_experiments_own_sweep_is_sound_and_what_it_does_not_name_is_all_there_is() -> None:
    path = FMAML / "sweep.yaml"
    settings = read(path)
    cells = grid(settings.model_copy(update={"variants": ("5shot",)}), path, Path("nowhere")).cells
    assert len(cells) == 2 * 2 * 1 * 3, "algorithms × protocols × targets × seeds"
    assert {cell.algorithm for cell in cells} == {"fmaml", "second-order"}
    sweep = Sweep(experiment=".", variants=("5shot", "10shot", "20shot"), set=["compare=[fmaml, fomaml]"])
    cells = grid(sweep, path, Path("nowhere")).cells
    assert len(cells) == len({cell.key for cell in cells}) == 3 * 2 * 2, "on synthetic data one target and one seed"
    assert [cell.variant for cell in cells[::4]] == ["5shot", "10shot", "20shot"]


@pytest.mark.quick
def test_cores_are_divided_among_the_workers() -> None:
    assert executors.shares([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
    assert executors.shares([4, 7], 2) == [[4], [7]]
    assert executors.shares([0, 1], 3) == [[0], [1], [0]]


@pytest.mark.quick
def test_gpus_are_given_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [executors.environment(n, "cuda")["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["4", "7", "4"]
    assert executors.environment(1, "cpu")["CUDA_VISIBLE_DEVICES"] == "4,7"


def test_the_debug_executor_runs_cells_in_this_process(tmp_path: Path) -> None:
    changes = {"executor": "debug", "algorithms": algorithms(1e6)[2:], "seeds": [0]}
    result = sweep(tmp_path, **changes)
    assert result.returncode == 1
    assert "1 of 2 cells are done" in result.stdout
    assert "hot" in result.stderr
    assert "diverged" in result.stderr
    assert [cell.done for cell in cells_of(tmp_path, **changes)] == [True, False]


def alive(group: int) -> bool:
    """Whether any process of the group is left, but for ones that only wait to be asked how they ended."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if os.getpgid(number) == group and state != "Z":
                return True
    return False


def stopped(folder: Path, cell: Cell, how: signal.Signals, after: int) -> Result:
    """``metaser sweep`` in a process group of its own, stopped once the cell has trained for so many meta-iterations.

    Ctrl-C reaches the whole group, as from a terminal; a kill the sweep's own process alone.
    """
    line = command("sweep", folder / "tiny.yaml", "--results", folder / "results")
    kept = cell.folder / "results.partial" / "checkpoints"

    def trained() -> bool:
        return any(int(path.stem) > after for path in kept.rglob("*.safetensors"))

    with start(line, start_new_session=True) as running:
        try:
            assert until(lambda: trained() or running.poll() is not None)
            assert running.poll() is None, running.communicate(timeout=LIMIT)
            (os.killpg if how == signal.SIGINT else os.kill)(running.pid, how)
            assert until(lambda: not alive(running.pid)), "a process is left"
            output, errors = running.communicate(timeout=LIMIT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert list(kept.rglob("*.safetensors")), "the checkpoint stays"
    return Result(line, running.returncode, output, errors)


@pytest.mark.slow
def test_a_stopped_sweep_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    changes = {"set": [*SMALL, "training.iterations=60"], "workers": 1, "checkpoint_every": 1}
    first, second = cells_of(tmp_path, **changes)
    result = stopped(tmp_path, second, signal.SIGKILL, after=0)
    assert result.returncode == -signal.SIGKILL
    assert (first.done, second.done) == (True, False)
    before = state(tmp_path)
    result = stopped(tmp_path, second, signal.SIGINT, after=6)
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
    assert "2 cells, 1 of them done before" in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("metaser: stopped")
    result = sweep(tmp_path, **changes)
    assert result.returncode == 0, result.stderr
    after = state(tmp_path)
    assert {after[name] == before[name] for name in before if name.startswith(first.key)} == {True}
    assert attempts(second.folder / "log.txt") == 3
    assert sorted(path.name for path in second.folder.iterdir()) == ["log.txt", "results"]


def scores_of(gaps: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Scores of algorithms by seed and task."""
    keys = {"experiment": "e", "variant": "5shot", "protocol": "paper", "data": "real", "source": "it", "target": "de",
            "shots": 5, "corpus": "emodb"}  # fmt: skip
    return pd.DataFrame(
        [
            {**keys, "algorithm": name, "seed": seed, "task": task, "accuracy": value, "recall_fear": value}
            for name, seeds in gaps.items()
            for seed, tasks in enumerate(seeds)
            for task, value in enumerate(tasks)
        ]
    )


@pytest.mark.quick
def test_paired_tests_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((4, 10)), rng.random((4, 10))
    test = paired(scores_of({"a": one.tolist(), "b": (other + 0.2).tolist()})).iloc[0]
    assert (test["metric"], test["algorithm"], test["against"], test["n_tasks"], test["n_seeds"]) == (
        "accuracy", "a", "b", 40, 4,
    )  # fmt: skip
    gap = one - other - 0.2
    assert test["difference"] == pytest.approx(gap.mean())
    assert test["p_seeds"] == pytest.approx(stats.ttest_rel(one.mean(axis=1), other.mean(axis=1) + 0.2).pvalue)
    assert test["p_tasks"] == pytest.approx(stats.wilcoxon(gap.ravel()).pvalue)
    assert (test["p_seeds_holm"], test["p_tasks_holm"]) == (test["p_seeds"], test["p_tasks"]), "one test alone"


def test_paired_tests_take_what_there_is() -> None:
    values = [[0.1, 0.2, 0.4], [0.3, 0.3, 0.9]]
    assert paired(scores_of({"a": values})).empty
    same = paired(scores_of({"a": values, "b": values})).iloc[0]
    assert (same["difference"], same["p_tasks"]) == (0, 1)
    assert np.isnan(same["p_seeds"]), "two seeds are too few"
    part = paired(scores_of({"a": values, "b": [[0.0, 0.1]]})).iloc[0]
    assert (part["n_tasks"], part["n_seeds"]) == (2, 1), "only tasks that both were tested on"
    assert part["difference"] == pytest.approx(0.1)
    apart = paired(scores_of({"a": values, "b": [[], [], [0.5]]}))
    assert apart.empty


@pytest.mark.quick
def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, float("nan"), 0.7]) == pytest.approx([1, float("nan"), 1], nan_ok=True)
    assert len(holm([])) == 0


def test_how_a_cell_ended_is_said_where_it_cannot_say_it_itself() -> None:
    assert pool.ending(-9) == "its process was killed (signal SIGKILL)"
    assert pool.ending(3) == "its process ended with exit code 3"
