"""MetaSER's study: sets of sources, corpora that are not there, Table 2 and Figure 2, and the corpora's exact layouts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from metaser.config.study import Study
from metaser.experiment import Run
from metaser.experiment.trials import Trial
from metaser.training import methods
from support import REPOSITORY
from support.commands import Result, assert_refused, metaser
from support.corpora import clip, emodb, emovo

METASER = REPOSITORY / "experiments" / "metaser"
ONE = "{epochs: 1, batch: 16}"
TUNED = ("metaser", "transser", "multiser", "joint", "target-only")
SETTINGS = ("seeds=[0]", "evaluation.tasks=2", "training.iterations=1", "training.meta_batch=2", "tasks.shots=1", "tasks.queries=1",
            "data.source_sets=[[savee, iemocap], [emodb, savee, iemocap], [tess, savee]]", "data.targets=[shemo, emovo, urdu]",
            *(f"algorithms.{name}.tuning={ONE}" for name in TUNED),
            *(f"algorithms.{name}.pretraining={ONE}" for name in ("transser", "multiser", "joint")))  # fmt: skip


def savee(root: Path) -> None:
    for speaker in ("DC", "JE", "JK", "KL"):
        for number, emotion in enumerate(("a", "h", "n", "sa")):
            for take in range(1, 4):
                clip(root / "savee" / "AudioData" / speaker / f"{emotion}{take:02}.wav", seed=number)


def shemo(root: Path) -> None:
    for gender, letter in (("female", "F"), ("male", "M")):
        for speaker in range(1, 4):
            for number, emotion in enumerate("AHNS"):
                for take in range(1, 4):
                    clip(root / "shemo" / gender / f"{letter}{speaker:02}{emotion}{take:02}.wav", seed=number)


def iemocap(root: Path) -> None:
    """Three sessions of a woman and a man; excitement apart from happiness, frustration beside the four."""
    for session in (1, 2, 3):
        folder, dialogue = root / "iemocap" / f"Session{session}", f"Ses0{session}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for who in "FM":
            for number, label in enumerate(("ang", "hap", "exc", "neu", "sad", "fru", "xxx") * 2):
                turn = f"{dialogue}_{who}{number:03}"
                clip(folder / "sentences" / "wav" / dialogue / f"{turn}.wav", seed=number)
                lines += [f"[{number}.0000 - {number + 1}.0000]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]", ""]
        labels = folder / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of the paper's corpora but TESS, RAVDESS and URDU."""
    root = tmp_path_factory.mktemp("corpora")
    savee(root)
    shemo(root)
    iemocap(root)
    emodb(root, clips=2)
    emovo(root, clips=3)
    return root


def run(results: Path, root: Path, variant: str = "table2", *settings: str, protocol: str = "strict") -> Result:
    chosen = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return metaser(
        "run", METASER, "--variant", variant, "--protocol", protocol, "--results", results, *chosen, data=root
    )


@pytest.fixture(scope="module")
def table2(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("table2")
    result = run(results, root)
    assert result.returncode == 0, result.stderr
    return results / "metaser" / "table2" / "real"


@pytest.mark.slow
def test_every_method_runs_on_every_set_of_sources_that_is_there(table2: Path) -> None:
    tasks = pd.read_csv(table2 / "tasks.csv")
    every = set(Study(METASER / "config.yaml", methods).experiment(variant="table2").algorithms)
    assert {*TUNED, "svm", "svm-sources", "best", "speakers"} == every
    trials = tasks.groupby(["source", "target", "algorithm"]).size()
    assert set(trials.index.get_level_values("source")) == {"savee+iemocap", "emodb+savee+iemocap"}
    assert set(trials.index.get_level_values("target")) == {"shemo", "emovo"}
    assert len(trials) == 2 * 2 * len(every)
    assert (trials == 2).all()
    assert {"macro_f1", "weighted_f1", "uar"} <= set(tasks.columns)
    paired = pd.read_csv(table2 / "paired.csv")
    assert {"metaser", "transser"} <= {*paired["algorithm"], *paired["against"]}


@pytest.mark.slow
def test_what_is_not_there_is_named_with_how_to_get_it(table2: Path) -> None:
    page = (table2 / "table.md").read_text()
    for part in (
        "**TESS + SAVEE** | needs TESS",
        "URDU (not here)",
        "* TESS: ",
        "* URDU: ",
        "MetaSER − joint",
        "26 of 29",
    ):
        assert part in page, part
    assert "* SAVEE: " not in page


@pytest.mark.slow
def test_the_corpora_are_counted_from_their_files_beside_the_full_release(table2: Path) -> None:
    page = (table2 / "table.md").read_text()
    assert "| iemocap (IEMOCAP) | 12 / 595 | 12 / 1084 | 12 / 1103 | 12 / 1708 | 48 / 4490 |" in page
    assert "| shemo (SHEMO) | 18 / 201 | 18 / 449 | 18 / 1059 | 18 / 1028 | 72 / 2737 |" in page


def test_excitement_may_count_as_happiness(root: Path, tmp_path: Path) -> None:
    few = ("compare=[speakers]", "data.source_sets=[[iemocap]]", "data.targets=[emovo]")
    result = run(tmp_path, root, "table2", *few, "data.merge={excitement: happiness}")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "metaser" / "table2" / "real" / "table.md").read_text()
    assert "| iemocap (IEMOCAP) | 24 / 595 | 12 / 1084 |" in page


def test_figure_2_ends_where_the_table_is(root: Path, tmp_path: Path) -> None:
    result = run(tmp_path, root, "figure2", "data.source_sets=[[savee]]", "data.targets=[emovo]",
                 "evaluation.split.fractions=[0.5, 1.0]", "evaluation.tasks=1")  # fmt: skip
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "metaser" / "figure2" / "real"
    metrics = pd.read_csv(folder / "metrics.csv")
    metrics = metrics[metrics["metric"] == "macro_f1"]
    for name in ("metaser", "transser", "multiser", "joint"):
        own = metrics[metrics["algorithm"] == name]
        (tested,) = own.loc[own["split"] == "test", "mean"]
        curve = own[own["split"] == "fraction"].set_index("iteration")["mean"]
        assert list(curve.index) == [50, 100]
        assert curve[100] == tested
    assert set(pd.read_csv(folder / "crossings.csv")["against"]) == {"transser", "multiser", "joint"}
    assert (folder / "fractions.png").stat().st_size > 10_000
    assert "overtakes for good at" in (folder / "table.md").read_text()


def test_the_search_reads_no_target() -> None:
    search = Study(METASER / "config.yaml", methods).experiment(variant="search")
    corpora = search.data.collections[search.data.use].corpora
    every = Study(METASER / "config.yaml", methods).experiment(variant="table2").data
    assert not set(corpora) & set(every.targets)
    assert not search.data.targets


def test_the_search_ranks_its_candidates(root: Path, tmp_path: Path) -> None:
    result = metaser("run", METASER, "--variant", "search", "--protocol", "paper", "--results", tmp_path, "--set",
                     "data.collections.sources.corpora=[savee, iemocap]", "--set", "compare=[svm, svm-speaker]",
                     "--set", "evaluation.tasks=2", "--set", "tasks.shots=1", "--set", "tasks.queries=1", data=root)  # fmt: skip
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "metaser" / "search" / "real"
    summary = pd.read_csv(folder / "summary.csv")
    means = summary[summary["metric"] == "macro_f1"].groupby("algorithm")["mean"].mean().sort_values(ascending=False)
    page = (folder / "table.md").read_text()
    rows = page.split("macro-F1, %")[1].splitlines()[2:4]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        {"svm": "SVM, target only", "svm-speaker": "SVM, target only, z-scores per speaker"}[str(name)]
        for name in means.index
    ]
    assert rows[0].endswith(f"| {100 * means.iloc[0]:.1f} |")


@pytest.mark.slow
def test_a_sweep_goes_through_the_sets_of_sources(root: Path, tmp_path: Path) -> None:
    sweep = {"experiment": str(METASER), "variants": ["table2"], "protocols": ["paper"], "algorithms": ["speakers", "svm"],
             "set": [setting for setting in SETTINGS if "tuning" not in setting and "pretraining" not in setting]}  # fmt: skip
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sweep))
    result = metaser("sweep", tmp_path / "sets.yaml", "--results", tmp_path, data=root)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "sweeps" / "sets"
    trials = json.loads((folder / "run.json").read_text())["cells"]
    assert [(trial["algorithm"], trial["source"]) for trial in trials] == [
        (algorithm, source) for source in ("savee+iemocap", "emodb+savee+iemocap") for algorithm in ("speakers", "svm")
    ]
    page = (folder / "table.md").read_text()
    assert "## `table2`, `paper`, `emodb+savee+iemocap`, real data" in page
    summary = pd.read_csv(folder / "summary.csv")
    assert not summary.duplicated(["algorithm", "source", "target", "metric"]).any()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["data.source_sets=[[savee, emovo]]", "data.targets=[emovo]"], ["source_sets: 'emovo' is a target"]),
        (["data.source_sets=[[savee], [savee]]"], ["source_sets", "there twice"]),
        (["data.source_sets=[[savvee]]"], ["data.source_sets: no domain 'savvee'", "did you mean 'savee'?"]),
        (["data.source_sets=[[savee]]", "data.sources=[savee]"], ["sources or source_sets, not both"]),
        (["data.source_sets=[[tess]]"], ["no set of sources", "tess", "metaser data list"]),
        (["data.merge={excitement: joy}"], ["merge", "'joy'"]),
        (["evaluation.split.test=1.0"], ["evaluation.split.test"]),
        (["algorithms.joint.tuning={base_lr: 0.01, max_lr: 0.001}"], ["base_lr", "above max_lr"]),
        (["algorithms.joint.iterations=1"], ["iterations: 0"]),
        (["algorithms.svm.tuning={epochs: 1}"], ["algorithms.svm.tuning", "leave it out"]),
        (["algorithms.joint.name=protonet"], ["algorithms.joint.tuning", "protonet", "leave it out"]),
    ],
)
def test_a_wrong_setting_is_one_line(root: Path, tmp_path: Path, settings: list[str], parts: list[str]) -> None:
    assert_refused(run(tmp_path, root, "table2", *settings), *parts)
    assert not list(tmp_path.rglob("*.csv"))


def divisions(run: Run, protocol: str, draws: int) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    trial = next(trial for trial in run.trials.all() if trial.protocol == protocol)
    found = []
    for target in trial.targets:
        sampler = run.trials.sampler(Trial(protocol, trial.algorithm, trial.target, 0, trial.source), target)
        for number in range(draws):
            episode = sampler.draw(np.random.default_rng(number))
            found.append(
                (target, run.speech.table.loc[episode.support_index], run.speech.table.loc[episode.query_index])
            )
    return found


@pytest.mark.skipif(not os.environ.get("METASER_DATA"), reason="needs METASER_DATA with EMOVO and URDU")
def test_strict_shares_no_speaker_and_no_recording_on_the_real_corpora(tmp_path: Path) -> None:
    real = Path(os.environ["METASER_DATA"])
    run = Run(METASER, "table2", [], tmp_path, ["strict", "paper"], real)
    seen = divisions(run, "strict", 30)
    assert {"emovo", "urdu"} <= {target for target, *_ in seen}
    for _, support, query in seen:
        assert not set(support["speaker"]) & set(query["speaker"])
        assert not set(support["group"]) & set(query["group"])
        assert set(support["emotion"]) == set(query["emotion"]) == set(run.first.data.emotions)
    shared = [set(support["speaker"]) & set(query["speaker"]) for _, support, query in divisions(run, "paper", 3)]
    assert all(shared), "as published, the same people speak on both sides"


@pytest.mark.slow
def test_a_run_names_its_models_by_their_sources(table2: Path) -> None:
    chosen = json.loads((table2 / "run.json").read_text())["chosen"]
    assert {"strict/joint/savee+iemocap/shemo+emovo/0", "strict/joint/emodb+savee+iemocap/shemo+emovo/0"} <= set(chosen)
    settings = json.loads((table2 / "run.json").read_text())["settings"]["strict"]
    assert methods.experiment(settings).data.source_sets[2] == ("tess", "savee")
