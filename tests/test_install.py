"""What an installation is made of: its requirements and their pins, its types, learn2learn as it is imported here."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata, resources

import pytest
from packaging.requirements import Requirement

from support import REPOSITORY

REQUIREMENTS = [Requirement(line) for line in metadata.requires("metaser") or []]


def python(code: str) -> str:
    """What `code` printed, on both streams, in a Python of its own that must not fail."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.quick
def test_every_requirement_has_one_pin_within_its_range() -> None:
    lines = (REPOSITORY / "packaging" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    versions = {canonical(name): version for name, version in pins.items()}
    assert len(versions) == len(pins)
    for requirement in REQUIREMENTS:
        if requirement.name != "metaser":  # its own extras
            assert requirement.specifier.contains(versions[canonical(requirement.name)]), str(requirement)


@pytest.mark.quick
def test_what_not_everybody_needs_is_an_extra() -> None:
    plain = {canonical(one.name) for one in REQUIREMENTS if one.marker is None}
    assert {"torch", "torchaudio", "learn2learn", "python-speech-features", "pandas", "matplotlib", "pyyaml"} <= plain
    assert not plain & {"submitit", "transformers", "pytest", "mypy", "ruff", "cvxpy", "scs", "gsutil", "qpth"}
    assert set(metadata.metadata("metaser").get_all("Provides-Extra") or []) == {"slurm", "encoders", "dev"}
    assert metadata.metadata("metaser")["Requires-Python"] == "<3.14,>=3.11"


@pytest.mark.quick
def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (resources.files("metaser") / "py.typed").is_file()


@pytest.mark.quick
def test_learn2learn_drags_in_nothing_that_it_does_not_import() -> None:
    needs = {canonical(Requirement(line).name) for line in metadata.requires("learn2learn") or []}
    assert not needs & {"gsutil", "qpth", "cvxpy", "scs"}
    assert metadata.version("learn2learn") == "0.2.0+metaser"


def test_learn2learn_is_imported_without_what_is_slow_and_unused() -> None:
    code = (
        "import sys; from metaser.runtime.learn2learn import l2l; assert l2l.algorithms.MAML;"
        "print(sorted({'gym', 'torchvision', 'pandas', 'learn2learn.vision'} & set(sys.modules)))"
    )
    assert python(code) == "[]\n"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("from metaser.runtime.learn2learn import l2l", id="metaser-first"),
        pytest.param(
            "import gym_notices.notices as n; n.notices.clear(); import learn2learn",
            id="learn2learn-first",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_learn2learn_is_whole_whoever_imports_it_first(first: str) -> None:
    code = f"""{first}
import inspect
import learn2learn
from metaser.runtime.learn2learn import l2l
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
