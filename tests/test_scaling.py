"""Ranks that are worth having: the calculation against its own formulas, and the measurement by running it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.process import environment
from benchmarks.scaling import limit, measure, page
from benchmarks.scaling.limit import Cost, Link, all_reduce, iteration
from benchmarks.scaling.worker import LARGE, SMALL
from benchmarks.workloads import WORKLOADS
from metaser.models import build
from support import REPOSITORY
from support.commands import assert_refused, benchmarks
from support.limit import LIMIT

FREE = Link("free", 0.0, float("inf"))
costs = st.builds(Cost, st.floats(1e-4, 1), st.floats(0, 0.1), st.integers(4, 10**8), st.sampled_from([1, 8, 16, 32]))
links = st.builds(Link, st.just("any"), st.floats(0, 1e-2), st.floats(1e6, 1e11))


@pytest.mark.quick
def test_a_ring_all_reduce_sends_every_byte_twice_but_for_its_own_share() -> None:
    assert all_reduce(1, 10**9, Link("slow", 1.0, 1.0)) == 0
    assert all_reduce(2, 1000, Link("one", 0.5, 100.0)) == pytest.approx(2 * 0.5 + 1000 / 100)
    assert all_reduce(4, 1000, Link("one", 0.0, 100.0)) == pytest.approx(2 * 3 / 4 * 1000 / 100)


@given(costs, links)
def test_no_speed_up_is_more_than_the_ranks_or_the_tasks_allow(cost: Cost, link: Link) -> None:
    rows = limit.table({"any": cost}, [link])
    fixed = rows[rows["meta_batch"] == "the paper's"]
    bound = fixed["ranks"].clip(upper=cost.meta_batch)
    assert (fixed["speedup"] <= bound + 1e-9).all()
    grown = rows[rows["meta_batch"] != "the paper's"]
    assert (grown["speedup"] <= grown["ranks"] + 1e-9).all()


@given(costs)
def test_with_free_messages_a_growing_meta_batch_scales_without_end(cost: Cost) -> None:
    rows = limit.table({"any": cost}, [FREE])
    grown = rows[rows["meta_batch"] != "the paper's"]
    assert grown["efficiency"].to_numpy() == pytest.approx(1)
    assert limit.last(grown) == 1024


@pytest.mark.quick
def test_the_papers_meta_batch_ends_where_its_tasks_do() -> None:
    rows = limit.table({"any": Cost(0.1, 0.0, 4, 8)}, [FREE])
    fixed = rows[rows["meta_batch"] == "the paper's"].set_index("ranks")
    assert list(fixed.loc[[1, 2, 4, 8, 16, 1024], "speedup"]) == pytest.approx([1, 2, 4, 8, 8, 8])
    assert limit.last(fixed.reset_index()) == 16, "16 ranks for 8 tasks: half of each"


@given(costs, st.sampled_from([2, 3, 8]), st.floats(1e-6, 1e-3), st.floats(1e7, 1e10))
def test_what_was_measured_is_found_again(cost: Cost, ranks: int, latency: float, bandwidth: float) -> None:
    """Rounds that a machine of known costs would give."""
    true = Link("true", latency, bandwidth)

    def row(name: str, count: int, tasks: int, small: float, large: float) -> dict[str, object]:
        return {"workload": "any", "contender": name, "ranks": count, "tasks": tasks, "message_bytes": cost.message,
                "ms_per_meta_iteration": 1e3 * iteration(1, tasks, cost, FREE), "small_reduce_us": 1e6 * small,
                "large_reduce_us": 1e6 * large}  # fmt: skip

    rounds = pd.DataFrame([
        row("one thread", 1, cost.meta_batch, 0, 0),
        row("one thread, twice the tasks", 1, 2 * cost.meta_batch, 0, 0),
        row("ranks", ranks, cost.meta_batch, all_reduce(ranks, 0, true), all_reduce(ranks, LARGE - SMALL, true)),
    ])  # fmt: skip
    found = measure.costs(rounds)["any"]
    assert (found.task_s, found.rest_s) == pytest.approx((cost.task_s, cost.rest_s), abs=1e-9, rel=1e-6)
    assert (found.message, found.meta_batch) == (cost.message, cost.meta_batch)
    link = measure.link(rounds)
    assert (link.latency_s, link.bandwidth) == pytest.approx((latency, bandwidth), rel=1e-6)


RESULTS, PAGE = REPOSITORY / "results" / "scaling" / "cpu-2-cores", REPOSITORY / "docs" / "scaling.md"


@pytest.mark.quick
def test_the_committed_tables_are_those_of_the_measured_rounds() -> None:
    rounds, calculated = (pd.read_csv(RESULTS / f"{name}.csv") for name in ("rounds", "limit"))
    costs, link = measure.costs(rounds), measure.link(rounds)
    pd.testing.assert_frame_equal(limit.table(costs, [link, *limit.LINKS]), calculated, rtol=1e-4, atol=1e-6)
    text = (RESULTS / "table.md").read_text()
    assert text == page.table(rounds, calculated, costs, link, text.partition(": ")[2].partition("\n")[0])


@pytest.mark.quick
def test_every_number_of_the_documentation_is_a_measured_one() -> None:
    """Tables and the measured link stand in ``table.md``, word by word; the text has no number but in its equation."""
    text, measured = PAGE.read_text(), (RESULTS / "table.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 3
    assert all(table in measured for table in tables)
    (link,) = re.findall(r"^All-reduces on .*$", text, re.MULTILINE)
    assert link in measured
    for part in (*tables, link):
        text = text.replace(part, "")
    assert re.findall(r"\d[\d.,]*", re.sub(r"(?m)^    .*$|`[^`]*`|\]\([^)]*\)", "", text)) == []


@pytest.mark.slow
def test_a_quick_run_measures_and_calculates(tmp_path: Path) -> None:
    result = benchmarks("scaling", "--quick", "--rounds", 1, "--workload", "omniglot-fc", "--results", tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "scaling").iterdir()
    assert folder.name.endswith("-quick")
    text = (folder / "table.md").read_text()
    assert "omniglot-fc" in text
    assert "QUICK" in text
    rounds, calculated = pd.read_csv(folder / "rounds.csv"), pd.read_csv(folder / "limit.csv")
    assert list(rounds.columns) == list(measure.ROUNDS)
    assert list(calculated.columns) == list(limit.LIMIT)
    assert sorted(set(calculated["ranks"])) == [2**power for power in range(11)]
    workload = WORKLOADS["omniglot-fc"]
    network = build(workload.model, workload.input_shape, workload.ways, 0)
    assert set(rounds["message_bytes"]) == {4 * sum(p.numel() for p in network.parameters())}
    ranks = rounds[rounds["contender"] == "ranks"]
    assert (ranks["ranks"] >= 2).all()
    assert (ranks["large_reduce_us"] > ranks["small_reduce_us"]).all()
    assert (rounds["ms_per_meta_iteration"] > 0).all()
    assert (folder / "limit.png").stat().st_size > 10_000


LEFT = """
from pathlib import Path
from benchmarks import ours
from benchmarks.scaling.worker import Job, work
ours.tune()
work(Job("omniglot-fc", "fomaml", tasks=4, threads=1, seconds=0.1, tiny=True))
print([(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")])
"""


@pytest.mark.slow
def test_a_rank_that_has_left_has_no_threads_of_gloos(tmp_path: Path) -> None:
    """One that outlives Python and lets go of a tensor only then ends the process with SIGABRT, one time in ten."""
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    found = subprocess.run([*torchrun, str(script)], capture_output=True, text=True, check=False, cwd=REPOSITORY,
                           timeout=LIMIT, env=environment() | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert "python" in found.stdout, found.stderr
    assert "pt_gloo" not in found.stdout


@pytest.mark.quick
def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert_refused(benchmarks("scaling", "--workload", "lsmt", "--results", tmp_path), "--workload", "'lstm'")
    assert_refused(benchmarks("scaling", "--rounds", 0, "--results", tmp_path), "--rounds")
    assert not list(tmp_path.iterdir())
