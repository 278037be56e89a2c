"""What an installation is made of: learn2learn as it is imported here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support import REPOSITORY


def python(code: str) -> str:
    """What `code` printed, on both streams, in a Python of its own that must not fail."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_learn2learn_is_imported_without_what_is_slow_and_unused() -> None:
    code = (
        "import sys; from metaser.learn2learn import l2l; assert l2l.algorithms.MAML;"
        "print(sorted({'gym', 'torchvision', 'pandas', 'learn2learn.vision'} & set(sys.modules)))"
    )
    assert python(code) == "[]\n"


@pytest.mark.parametrize(
    "first",
    ["from metaser.learn2learn import l2l", "import gym_notices.notices as n; n.notices.clear(); import learn2learn"],
    ids=["metaser-first", "learn2learn-first"],
)
def test_learn2learn_is_whole_whoever_imports_it_first(first: str) -> None:
    code = f"""{first}
import inspect
import learn2learn
from metaser.learn2learn import l2l
assert learn2learn is l2l
assert not hasattr(l2l, "visions")
from learn2learn import text
import learn2learn.vision.models
assert l2l.vision is learn2learn.vision and l2l.vision.models.OmniglotFC(4, 2)
assert text.datasets and l2l.gym.MetaEnv
inspect.stack()  # looks at every module there is
print("whole")
"""
    assert python(code).splitlines()[-1] == "whole"
