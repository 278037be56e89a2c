"""What the tests stand on: a limit that ends what hangs, and quick tests of everything."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import REPOSITORY
from support.limit import limit

pytestmark = pytest.mark.quick


def test_what_takes_too_long_fails_and_says_where() -> None:
    said = r"a nap: still at it after 0\.05 s\n(.*\n)*.*time\.sleep\(60\)"
    with pytest.raises(pytest.fail.Exception, match=said), limit(0.05, lambda: "a nap"):
        time.sleep(60)


def test_a_process_that_waits_for_ever_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(pytest.fail.Exception, match="a process"), limit(0.05, lambda: "a process"):
            process.wait()
        process.kill()


def test_an_inner_limit_leaves_the_outer_one() -> None:
    def both() -> None:
        with limit(0.2, lambda: "the outer"):
            with limit(60, lambda: "the inner"):
                pass
            time.sleep(60)

    with pytest.raises(pytest.fail.Exception, match="the outer"):
        both()


def used(path: Path) -> set[str]:
    """The parts of metaser that a test module imports; the command's are used by whoever calls it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "metaser":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= set(node.module.split(".")[1:2])
    return found


def test_every_part_of_metaser_has_a_quick_test() -> None:
    quick = [
        path
        for path in (REPOSITORY / "tests").glob("test_*.py")
        if "pytest.mark.quick" in path.read_text(encoding="utf-8")
    ]
    parts = {path.parent.name for path in (REPOSITORY / "metaser").glob("*/__init__.py")}
    assert parts - set().union(*map(used, quick)) == set()
