"""What the tests stand on: a limit that ends what hangs, and help that does its duty."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from support.limit import limit


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
