"""Results folders are whole or as they were; tables say what their numbers are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaser.reporting import results, tables
from metaser.reporting.folder import ResultsFolder
from metaser.runtime.errors import UserError
from metaser.runtime.files import replacing, write_text
from metaser.runtime.provenance import commit
from metaser.training.evaluation import mean_interval
from support.limit import LIMIT

pytestmark = pytest.mark.quick


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_finished_run_replaces_the_earlier_one_whole(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "experiment" / "variant" / "real")
    for content in ("first", "second"):
        with folder.writing() as path:
            (path / f"{content}.txt").write_text(content)
            (path / "run.json").write_text("{}")
    assert files(tmp_path / "experiment" / "variant") == ["real", "real/run.json", "real/second.txt"]


@pytest.mark.parametrize("error", [UserError("a class is too small"), KeyboardInterrupt(), ValueError("a bug")])
def test_a_run_that_fails_leaves_the_earlier_results_alone(tmp_path: Path, error: BaseException) -> None:
    folder = ResultsFolder(tmp_path / "experiment" / "variant" / "real")
    with folder.writing() as path:
        (path / "summary.csv").write_text("good")

    def fail() -> None:
        with folder.writing() as path:
            (path / "summary.csv").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert files(tmp_path / "experiment" / "variant") == ["real", "real/summary.csv"]
    assert (folder.final / "summary.csv").read_text() == "good"


def test_a_first_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "experiment" / "variant" / "real")
    with pytest.raises(UserError), folder.writing():
        raise UserError("no")
    assert files(tmp_path) == []


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "experiment" / "variant" / "real")
    folder.outputs.mkdir(parents=True)
    (folder.outputs / "half.csv").write_text("half")
    folder.final.mkdir()
    (folder.final / ".00112233445566ff.tmp").write_text("half")
    with folder.writing() as path:
        (path / "whole.csv").write_text("whole")
    assert files(tmp_path / "experiment" / "variant") == ["real", "real/whole.csv"]


def test_a_results_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"{tmp_path / 'file'}.*writable"):
        ResultsFolder(tmp_path / "file" / "variant" / "real").writing().__enter__()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "before")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert files(tmp_path) == ["note.txt"]


def scores_of(seeds: int, tasks: int = 6, target: str = "en", corpus: str = "emofilm") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    keys = {"experiment": "fmaml", "variant": "5shot", "algorithm": "fmaml", "protocol": "paper", "data": "real",
            "source": "es+it", "target": target, "shots": 5, "corpus": corpus}  # fmt: skip
    return pd.DataFrame(
        [
            {**keys, "seed": s, "accuracy": rng.random(), "recall_fear": np.nan}
            for s in range(seeds)
            for _ in range(tasks)
        ]
    )


PAPER = pd.DataFrame(
    [("5shot", "fmaml", "emofilm", "en", "accuracy", 0.6971, "Table 2")], columns=list(tables.PAPER_COLUMNS)
)


def test_a_summary_row_has_mean_interval_counts_and_the_papers_value() -> None:
    scores = scores_of(seeds=1)
    summary = tables.summarise(scores, PAPER)
    assert list(summary.columns) == list(results.SUMMARY)
    row = summary.iloc[0]
    assert len(summary) == 1, "a metric without a value has no row"
    assert (row["mean"], row["ci95"]) == pytest.approx(mean_interval(scores["accuracy"].to_numpy()))
    assert (row["n_tasks"], row["n_seeds"], row["paper"]) == (6, 1, 0.6971)


@pytest.mark.parametrize(("target", "corpus"), [("en", "ravdess"), ("it", "emofilm"), ("en", "synthetic")])
def test_the_papers_value_stands_only_beside_the_papers_own_cell(target: str, corpus: str) -> None:
    summary = tables.summarise(scores_of(seeds=2, target=target, corpus=corpus), PAPER)
    assert summary["paper"].isna().all()
    assert summary["n_seeds"].tolist() == [2]


def test_a_paper_table_without_a_column_is_named(tmp_path: Path) -> None:
    PAPER.drop(columns="value").to_csv(tmp_path / "paper.csv", index=False)
    with pytest.raises(UserError, match=r"paper.csv: lacks the column value"):
        tables.read_paper(tmp_path / "paper.csv")
    with pytest.raises(UserError, match=r"absent.csv: cannot be read"):
        tables.read_paper(tmp_path / "absent.csv")


def test_the_commit_is_named_and_dirty_when_code_but_not_when_results_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout.strip()

    assert commit(tmp_path) == ""
    git("init", "-q")
    for folder in ("code", "results"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("one")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert commit(tmp_path / "code") == head
    (tmp_path / "results" / "file").write_text("two")
    assert commit(tmp_path / "code") == head
    (tmp_path / "code" / "file").write_text("two")
    assert commit(tmp_path / "code") == f"{head}-dirty"
