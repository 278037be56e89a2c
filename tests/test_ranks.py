"""One run over several processes: the same tasks, the same meta-gradients, and what happens when one of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from metaser.runtime.errors import UserError
from metaser.runtime.ranks import Ranks
from support import FMAML, REPOSITORY, rank
from support.commands import STEPS, TASKS, environment
from support.limit import LIMIT, until
from support.networks import difference

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def variables() -> dict[str, str]:
    """For processes that find this module's neighbours, and share the cores out themselves."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH")]))
    return environment(OMP_NUM_THREADS="1", PYTHONPATH=path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("alone") / "found.safetensors"
    rank.main(out)
    return load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_train_on_the_same_tasks_and_agree(count: int, alone: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """4 ranks share 6 tasks, so that some have one and some two."""
    out = tmp_path / "found.safetensors"
    subprocess.run([*TORCHRUN, str(count), "-m", rank.__name__, str(out)], check=True, env=variables(), timeout=LIMIT,
                   capture_output=True)  # fmt: skip
    found = load_file(out)
    assert found.keys() == alone.keys()
    for name in rank.ALGORITHMS:
        assert len(found[f"{name}.losses"]) == 3 * rank.TASKS
        assert torch.equal(found[f"{name}.losses"][: rank.TASKS], alone[f"{name}.losses"][: rank.TASKS]), (
            "the same tasks"
        )
        for part in ("losses", "gradient", "weights"):
            assert difference(found[f"{name}.{part}"], alone[f"{name}.{part}"]) < 1e-10, (name, part)


@pytest.mark.quick
def test_a_rank_without_a_task_sends_zeros() -> None:
    for count in (1, 2, 5):
        parts = [Ranks(index, count).own(range(3)) for index in range(count)]
        assert sorted(place for part in parts for place in part) == [0, 1, 2]
    assert list(Ranks(4, 5).own(range(3))) == []


@pytest.mark.quick
def test_alone_everything_stays_what_it_is() -> None:
    ranks = Ranks.join(torch.device("cpu"))
    assert (ranks.rank, ranks.count, ranks.first) == (0, 1, True)
    assert ranks.together([1, 2]) == [1, 2]
    assert ranks.tell("x") == "x"
    assert torch.equal(ranks.add_up(torch.ones(2)), torch.ones(2))


@pytest.mark.quick
def test_variables_that_make_no_sense_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="torchrun"):
        Ranks.join(torch.device("cpu"))


RUN = ("training.iterations=40", "training.meta_batch=4", "training.monitor_every=20", "training.monitor_tasks=2",
       "training.log_every=1", "evaluation.tasks=3", "seeds=[0]", "data.targets=[x-dor]", "compare=[fmaml]",
       "evaluation.steps=[0]", *STEPS, *TASKS)  # fmt: skip


def command(out: Path) -> list[str]:
    settings = [part for setting in RUN for part in ("--set", setting)]
    return ["-m", "metaser", "run", str(FMAML), "--variant", "5shot", "--protocol", "strict",
            "--checkpoint-every", "2", "--results", str(out), *settings]  # fmt: skip


@pytest.mark.slow
def test_a_run_by_torchrun_gives_the_results_and_a_dead_rank_costs_nothing(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, *command(alone)], check=True, capture_output=True, env=variables(), cwd=REPOSITORY,
                   timeout=LIMIT)  # fmt: skip
    shared = tmp_path / "shared"
    launched = [*TORCHRUN, "2", *command(shared)]
    process = subprocess.Popen(launched, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=variables(),
                               cwd=REPOSITORY, start_new_session=True)  # fmt: skip
    partial = shared / "fmaml" / "5shot" / "synthetic.partial"
    try:
        assert until(lambda: list(partial.glob("checkpoints/*/*.safetensors")) or process.poll() is not None)
        victim = next(pid for pid in descendants(process.pid) if rank_of(pid) == "1")
        os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate(timeout=LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert "the same command goes on" in errors
    assert list(partial.glob("checkpoints/*/*.safetensors")), "rank 0 keeps what was done"
    subprocess.run(launched, check=True, capture_output=True, env=variables(), cwd=REPOSITORY, timeout=LIMIT)
    one, two = (pd.read_csv(folder / "fmaml" / "5shot" / "synthetic" / "metrics.csv") for folder in (alone, shared))
    assert one.drop(columns=["mean", "ci95"]).equals(two.drop(columns=["mean", "ci95"]))
    first = (one["split"] == "train") & (one["iteration"] == 1) & (one["metric"] == "loss")
    assert one.loc[first, "mean"].to_numpy() == pytest.approx(two.loc[first, "mean"].to_numpy(), rel=1e-4)
    facts = json.loads((shared / "fmaml" / "5shot" / "synthetic" / "run.json").read_text())
    assert facts["ranks"] == 2
    assert not partial.exists()


def descendants(pid: int) -> list[int]:
    """The processes below one."""
    children = [int(line) for line in subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True,
                                                     text=True, check=False, timeout=LIMIT).stdout.split()]  # fmt: skip
    return [*children, *(below for child in children for below in descendants(child))]


def rank_of(pid: int) -> str:
    """The RANK variable of a process."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((value.decode().partition("=")[2] for value in variables if value.startswith(b"RANK=")), "")
