"""How all tests are run: a cache of their own, one thread for operators, a limit for each."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("support")
from support.limit import limit  # noqa: E402  (rewritten as the tests are)

# A slow or busy machine is no reason to fail: examples have no deadline.
settings.register_profile("metaser", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("metaser")

# As in a run (`Workers`): the tests are shared out over the cores, and operators that were, too, would wait.
torch.set_num_threads(1)

#: Seconds that a test may take, and its preparation, and its end: many times what the longest takes on a busy machine.
SECONDS = 3600 if "METASER_KILLS" in os.environ else 600

#: The files that take longest; two processes that share the files out end together if these do not come last.
LONG = (
    "test_commands.py", "test_images.py", "test_ranks.py", "test_sweep.py", "test_modifications.py", "test_checkpoint.py",
    "test_survival.py", "test_imports.py", "test_hostile_own.py", "test_side_by_side.py", "test_metaser.py", "test_hostile.py",
    "test_scaling.py", "test_notebooks.py", "test_bench.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first; within a file the order stays."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """No test hangs: one that takes too long fails, and the others go on."""
    with limit(SECONDS, lambda: item.name):
        return (yield)


pytest_runtest_setup = pytest_runtest_teardown = pytest_runtest_call


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, so that the synthetic corpus is made once and the user's cache is left alone.

    Test processes that share the work share it, too: whoever writes into it writes whole files or nothing.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(exist_ok=True)
    patch = pytest.MonkeyPatch()
    patch.setenv("METASER_CACHE", str(folder))
    patch.setenv("METASER_PROCESSES", "1")  # the tests themselves are shared out over the cores
    yield folder
    patch.undo()
