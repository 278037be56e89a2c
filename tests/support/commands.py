"""The `metaser` command, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from metaser import cli
from support import FMAML, REPOSITORY
from support.limit import LIMIT

#: A run of seconds: small tasks, few inner steps, few iterations; and for few clips per class.
TASKS = ("tasks.queries=2", "tasks.fixed_queries=2", "evaluation.queries=5", "evaluation.min_queries=2",
         "evaluation.fixed_queries=3")  # fmt: skip
STEPS = ("algorithms.fmaml.steps=2", "algorithms.fmaml.test_steps=2")
SMALL = ("training.iterations=2", "training.meta_batch=2", "training.monitor_every=1", "training.monitor_tasks=1",
         "evaluation.tasks=3", "evaluation.steps=[0,1]", "seeds=[0]", "compare=[fmaml]", *STEPS, *TASKS)  # fmt: skip
FEW = ("tasks.shots=2", "evaluation.queries=3")
Result = subprocess.CompletedProcess


def metaser(*arguments: object, data: object = None) -> Result:
    """The command's entry point, called in this process (a new one spends seconds on imports); ``data`` is METASER_DATA."""
    return called(cli.app, *arguments, data=data)


def benchmarks(*arguments: object) -> Result:
    """``python -m benchmarks``, in this process."""
    from benchmarks.__main__ import app

    return called(app, *arguments)


def called(app: typer.Typer, *arguments: object, data: object = None) -> Result:
    """A command's entry point, called in this process."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["metaser", *map(str, arguments)])
        patch.delenv("METASER_DATA", raising=False)
        if data:
            patch.setenv("METASER_DATA", str(data))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                cli.main(app)
            except SystemExit as leaving:
                code = int(leaving.code or 0)
    return Result(arguments, code, output.getvalue(), errors.getvalue())


def command(*arguments: object) -> list[str]:
    """The command line of `metaser` in a process of its own."""
    return [sys.executable, "-m", "metaser", *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without METASER_DATA, and ``variables``."""
    return {name: value for name, value in os.environ.items() if name != "METASER_DATA"} | variables


def process(*arguments: object) -> Result:
    """The command in a process of its own, without METASER_DATA."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), cwd=REPOSITORY,
                          check=False, timeout=LIMIT)  # fmt: skip


def start(line: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Starts a command line as a terminal does, so that Ctrl-C stops it: in the background of a script, SIGINT is ignored."""
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=REPOSITORY,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)  # fmt: skip


def small(results: Path, *settings: str) -> list[object]:
    """The arguments of a run of F-MAML that takes seconds."""
    chosen = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return ["run", FMAML, "--variant", "5shot", "--results", results, *chosen]


def run(results: Path, *settings: str, data: object = None) -> Result:
    """Such a run, in this process."""
    return metaser(*small(results, *settings), data=data)


def assert_refused(result: Result, *parts: str) -> None:
    """One line on standard error (after what was announced), exit code 2, no traceback."""
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("metaser: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in last, last
