"""The commands as a user runs them: whole runs in small, and every mistake as one clear line."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metaser import cli
from support import FMAML, REPOSITORY
from support.commands import (
    FEW,
    Result,
    assert_refused,
    benchmarks,
    command,
    environment,
    metaser,
    process,
    run,
    small,
    start,
)
from support.corpora import clip, emodb, emofilm, emovo
from support.limit import LIMIT, until
from support.tasks import EMOTIONS

TWO = "data.targets=[x-ako, x-dor]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    results = tmp_path_factory.mktemp("results")
    return results / "fmaml" / "5shot" / "synthetic", process(*small(results, TWO))


def test_a_run_without_data_says_so_and_writes_everything(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.returncode == 0, result.stderr
    assert "SYNTHETIC" in result.stderr
    assert "gym" not in (result.stdout + result.stderr).lower()
    assert "Warning" not in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy.png", "confusion.csv", "confusion.png", "convergence-accuracy.png", "convergence-loss.png", "metrics.csv",
        "paired.csv", "run.json", "steps.png", "summary.csv", "table.md", "tasks.csv", "timing.csv",
    ]  # fmt: skip
    table = (folder / "table.md").read_text()
    assert table in result.stdout
    assert table.count("SYNTHETIC") > 2
    assert "accuracy, 7 classes" in table
    assert "accuracy, 5 emotions only" in table
    assert "69.71" in table, "the paper's own number, in its own table"

    summary = pd.read_csv(folder / "summary.csv")
    assert list(summary.columns) == ["experiment", "variant", "algorithm", "protocol", "data", "source", "target",
                                     "shots", "metric", "mean", "ci95", "n_tasks", "n_seeds", "paper"]  # fmt: skip
    assert set(summary["data"]) == {"synthetic"}
    assert set(summary["protocol"]) == {"paper", "strict"}
    assert summary["paper"].isna().all(), "no paper has numbers on synthetic data"
    wanted = {
        "loss",
        "accuracy",
        "accuracy_emotions",
        "macro_f1",
        "weighted_f1",
        "uar",
        "recall_neutral",
        "recall_silence",
    }
    assert wanted | {f"recall_{emotion}" for emotion in EMOTIONS} == set(summary["metric"])
    shares = summary[summary["metric"] != "loss"]
    assert shares["mean"].between(0, 1).all()
    assert (summary["n_tasks"] == 3).all()
    for target, source in summary[["target", "source"]].drop_duplicates().itertuples(index=False):
        assert target not in source.split("+")

    metrics = pd.read_csv(folder / "metrics.csv")
    assert set(metrics["split"]) == {"train", "monitor", "test", "steps"}
    assert sorted(metrics.loc[metrics["split"] == "monitor", "iteration"].unique()) == [0, 1, 2]
    timing = pd.read_csv(folder / "timing.csv")
    assert list(timing.columns) == list(summary.columns)
    assert (timing["mean"] > 0).all()
    facts = json.loads((folder / "run.json").read_text())
    assert facts["data"]["kind"] == "synthetic"
    assert {"commit", "versions", "hardware", "settings", "seconds_per_100_epochs", "wall_seconds"} <= facts.keys()
    confusion = pd.read_csv(folder / "confusion.csv")
    assert confusion["count"].sum() == 2 * 2 * 3 * (5 * 5 + 2 * 3), "protocols × languages × tasks × query clips"


def test_the_same_command_gives_the_same_numbers(finished: tuple[Path, Result], tmp_path: Path) -> None:
    """In another process too: every file but the two with measured times is the same to the byte."""
    folder, _ = finished
    assert metaser(*small(tmp_path, TWO)).returncode == 0
    again = tmp_path / "fmaml" / "5shot" / "synthetic"
    for name in (
        "metrics.csv",
        "summary.csv",
        "confusion.csv",
        "table.md",
        "convergence-loss.png",
        "accuracy.png",
        "confusion.png",
    ):
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name


def test_an_experiment_folder_is_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python experiments/fmaml/run.py …`` is ``metaser run experiments/fmaml …``."""
    asked: list[str] = []
    monkeypatch.setattr(cli, "main", lambda: asked.extend(sys.argv[1:]))
    for folder in sorted(FMAML.parent.glob("*/run.py")):
        asked.clear()
        monkeypatch.setattr(sys, "argv", ["run.py", "--variant", "5shot"])
        runpy.run_path(str(folder), run_name="__main__")
        assert asked == ["run", str(folder.parent), "--variant", "5shot"]


def test_one_cell_can_be_run_alone(tmp_path: Path, finished: tuple[Path, Result]) -> None:
    """And gives what the whole run gives for it."""
    result = metaser(*small(tmp_path, "data.targets=[x-dor]"), "--protocol", "strict")
    assert result.returncode == 0, result.stderr
    alone = pd.read_csv(tmp_path / "fmaml" / "5shot" / "synthetic" / "summary.csv")
    whole = pd.read_csv(finished[0] / "summary.csv")
    chosen = whole[(whole["target"] == "x-dor") & (whole["protocol"] == "strict")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, chosen)
    assert_refused(metaser(*small(tmp_path, "data.targets=[x-dro]")), "no domain 'x-dro'", "did you mean 'x-dor'?")
    assert_refused(metaser(*small(tmp_path), "--protocol", "strickt"), "unknown protocol 'strickt'", "'strict'")


@pytest.mark.slow
def test_a_run_says_where_its_time_went_and_computes_the_same(finished: tuple[Path, str], tmp_path: Path) -> None:
    """With ``--profile``, and with tasks stacked by vmap, which rounds otherwise but learns the same."""
    result = metaser(
        *small(tmp_path / "profiled", "data.targets=[x-dor]", "training.iterations=9"),
        "--profile",
        "--protocol",
        "strict",
    )
    assert result.returncode == 0, result.stderr
    profile = (tmp_path / "profiled" / "fmaml" / "5shot" / "synthetic" / "profile.txt").read_text()
    assert "5 meta-iterations of the first model" in profile
    assert "aten::convolution_backward" in profile
    assert not (finished[0] / "profile.txt").exists()
    losses = []
    for layout in (
        "task",
        "stacked",
    ):  # one step, enough clips: differences in rounding grow through batch normalisation
        settings = (
            f"engine.layout={layout}",
            "algorithms.fmaml.steps=1",
            "tasks.queries=5",
            "tasks.fixed_queries=5",
            "training.iterations=1",
            "data.targets=[x-dor]",
        )
        result = metaser(*small(tmp_path / layout, *settings), "--protocol", "strict")
        assert result.returncode == 0, result.stderr
        metrics = pd.read_csv(tmp_path / layout / "fmaml" / "5shot" / "synthetic" / "metrics.csv")
        losses.append(metrics.query("split == 'train' and iteration == 1 and metric == 'loss'")["mean"].item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert_refused(metaser(*small(tmp_path, "engine.layout=low-rank")), "engine.layout", "use task")
    assert_refused(metaser(*small(tmp_path, "engine.curvature=finite-difference")), "engine.curvature", "kinks")
    if not torch.cuda.is_available():
        assert_refused(metaser(*small(tmp_path, "engine.device=cuda")), "engine.device", "no GPU", "use cpu or auto")


@pytest.mark.quick
def test_bench_names_what_is_mistyped(tmp_path: Path) -> None:
    assert_refused(benchmarks("bench", "--workload", "lstn", "--results", str(tmp_path)), "--workload", "'lstm'")
    assert_refused(benchmarks("bench", "--algorithm", "momaml", "--results", str(tmp_path)), "--algorithm", "'fomaml'")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def open_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("open")
    emodb(root)
    emovo(root)
    return root


@pytest.mark.quick
def test_the_open_corpora_are_used_as_far_as_they_are_there(open_root: Path, tmp_path: Path) -> None:
    result = run(tmp_path, *FEW, data=open_root)
    assert result.returncode == 0, result.stderr
    assert "left out: ravdess" in result.stderr
    assert "SYNTHETIC" not in result.stderr + result.stdout
    summary = pd.read_csv(tmp_path / "fmaml" / "5shot" / "real" / "summary.csv")
    assert set(summary["target"]) == {"de", "it"}
    assert set(summary["data"]) == {"real"}
    assert summary["paper"].isna().all(), "EMOVO is not the paper's Italian"
    assert "German (EMODB)" in (tmp_path / "fmaml" / "5shot" / "real" / "table.md").read_text()


def test_a_users_own_corpus_is_one_line_of_configuration(open_root: Path, tmp_path: Path) -> None:
    for speaker in ("anna", "nikos", "eleni", "petros"):
        for emotion in (*EMOTIONS, "neutral"):
            for take in range(5):
                clip(tmp_path / "mine" / speaker / emotion / f"{take}.wav", seed=take)
    corpora = f"data.collections.open.corpora=[emodb, {{name: mine, path: {tmp_path / 'mine'}, language: el}}]"
    result = run(tmp_path / "results", *FEW, corpora, "data.targets=[el]", data=open_root)
    assert result.returncode == 0, result.stderr
    summary = pd.read_csv(tmp_path / "results" / "fmaml" / "5shot" / "real" / "summary.csv")
    assert set(zip(summary["source"], summary["target"], strict=True)) == {("de", "el")}
    gone = corpora.replace("mine, language", "gone, language")
    assert_refused(run(tmp_path / "none", *FEW, gone, data=open_root), "mine", str(tmp_path / "gone"))


@pytest.mark.slow
def test_emofilm_runs_the_papers_three_experiments_with_borrowed_neutral(tmp_path: Path) -> None:
    root = tmp_path / "data"
    emofilm(root)
    emodb(root)
    result = run(tmp_path / "results", *FEW, data=root)
    assert result.returncode == 0, result.stderr
    assert "strict: 3 clips without a known speaker are left out" in result.stderr
    folder = tmp_path / "results" / "fmaml" / "5shot" / "real"
    summary = pd.read_csv(folder / "summary.csv")
    assert set(summary["target"]) == {"en", "es", "it"}
    beside = summary[summary["metric"] == "accuracy"].set_index(["protocol", "target"])["paper"]
    for protocol in ("paper", "strict"):
        assert beside[protocol].to_dict() == {"en": 0.6971, "es": 0.6885, "it": 0.6913}
    assert "borrowed" in (folder / "table.md").read_text()

    next((root / "emofilm").glob("*.xlsx")).unlink()
    assert_refused(run(tmp_path / "none", *FEW, data=root), "disjoint needs to know who speaks", "legend")
    lone = tmp_path / "lone"
    emofilm(lone, clips=3)
    assert_refused(run(tmp_path / "none", *FEW, data=lone), "fixed class neutral", "emodb")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["tasks.shots=0"], ["tasks.shots", "not 0"]),
        (["tasks.shots=-3"], ["tasks.shots", "not -3"]),
        (["training.iteration=1"], ["unknown key training.iteration", "'iterations'"]),
        (["algorithms.fmaml.name=fmlam"], ["unknown name 'fmlam'", "'fmaml'"]),
        (["model.name=conv"], ["unknown name 'conv'", "fmaml-conv"]),
        (["features.recipe=fmalm"], ["fmalm", "'fmaml"]),
        (["data.collections.synthetic.corpora=[synthetc]"], ["synthetc", "'synthetic'"]),
        (["data.use=open"], ["open lacks emodb", "METASER_DATA"]),
        (["tasks.shots=71"], ["x-", "class ", "72 clips", "71 support"]),
        (["tasks.ways=6"], ["tasks.ways", "6 of 5"]),
        (["data.emotions=[fear, joy]", "tasks.ways=2"], ["class joy has 0 clips"]),
        (["data.emotions=[neutral, anger]", "tasks.ways=2"], ["'neutral' is there twice"]),
        (["tasks.fixed=[silence, silence]"], ["'silence' is there twice"]),
        (["tasks.fixed=[]"], ["fmaml needs fixed classes", "tasks.fixed"]),
        (["seeds=[0, 0]"], ["seeds: 0 is there twice"]),
        (["seeds=[-1]"], ["seeds.0", "not -1"]),
        (["data.targets=[x-ako, x-ako]"], ["targets: 'x-ako' is there twice"]),
        (["data.collections.open.corpora=[emodb, emodb]"], ["corpora: 'emodb' is there twice"]),
        (["data.collections.open.at_least=5"], ["at_least: 5 of 3"]),
        (["training.outer_lr=true"], ["training.outer_lr", "True"]),
        (["training.outer_lr=1e38"], ["training.outer_lr", "'1e38'"]),
        (["experiment=/tmp/elsewhere"], ["experiment", "/tmp/elsewhere"]),
        (["experiment=.."], ["experiment", "'..'"]),
        (["experiment=2020-13-45"], ["--set experiment=2020-13-45", "not valid YAML"]),
        (["seeds=" + "[" * 3000], ["not valid YAML"]),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(tmp_path: Path, settings: list[str], parts: list[str]) -> None:
    # The protocols set the recipe and the speakers themselves, so they are overridden last.
    assert_refused(run(tmp_path / "results", *settings), *parts)
    assert not list((tmp_path / "results").rglob("*"))


def test_models_that_diverge_are_a_line_each_and_the_run_has_failed(tmp_path: Path) -> None:
    result = run(tmp_path, "training.outer_lr=1e6", "algorithms.fmaml.inner_lr=1e6", "data.targets=[x-ako]")
    assert result.returncode == 1, result.stderr
    *_, paper, strict, last = result.stderr.splitlines()
    for protocol, line in (("paper", paper), ("strict", strict)):
        assert f"{protocol}, x-ako, fmaml, seed 0: training diverged" in line
    assert "2 of 2 models failed" in last
    assert not (tmp_path / "fmaml" / "5shot" / "synthetic").exists()


Spoil = Callable[[Path], object]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (lambda path: path.write_bytes(b""), ["not readable as audio"]),
        (lambda path: path.write_bytes(b"RIFF" + bytes(40)), ["not readable as audio"]),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), ["truncated"]),
        (lambda path: soundfile.write(path, np.zeros(0), 16000), ["holds no samples"]),
        (lambda path: soundfile.write(path, np.full(4000, np.nan), 16000, subtype="FLOAT"), ["NaN"]),
        (lambda path: path.rename(path.with_name("what.wav")), ["what.wav", "is not named as"]),
    ],
    ids=["empty", "corrupt", "truncated", "zero-length", "nan", "misnamed"],
)
def test_a_bad_clip_is_named_and_nothing_is_written(tmp_path: Path, spoil: Spoil, parts: list[str]) -> None:
    root = tmp_path / "data"
    emodb(root, clips=3)
    emovo(root, clips=3)
    victim = root / "emodb" / "wav" / "08a02Wa.wav"
    spoil(victim)
    where = [] if "what.wav" in parts else [str(victim)]
    assert_refused(run(tmp_path / "results", *FEW, data=root), *where, *parts)
    assert not list((tmp_path / "results").rglob("*"))


@pytest.mark.quick
def test_missing_data_roots_corpora_and_results_folders_are_named(tmp_path: Path, open_root: Path) -> None:
    absent, empty, file = tmp_path / "absent", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("")
    assert_refused(run(tmp_path / "r", data=absent), "METASER_DATA", str(absent))
    assert_refused(run(tmp_path / "r", data=file), "METASER_DATA", "is a file")
    assert_refused(run(tmp_path / "r", data=empty), str(empty), "open lacks emodb, ravdess, emovo", "data list")
    (empty / "emodb").mkdir()
    (empty / "emovo").mkdir()
    assert_refused(run(tmp_path / "r", data=empty), "emodb", str(empty / "emodb"))
    assert_refused(run(file, *FEW, data=open_root), str(file), "writable folder")
    assert_refused(metaser("run", tmp_path), "no experiment", "run.py")
    assert_refused(metaser("run", FMAML), "choose a variant", "5shot")
    assert_refused(metaser("run", FMAML, "--variant", "6shot"), "unknown variant '6shot'")
    assert not (tmp_path / "r").exists() or not list((tmp_path / "r").rglob("*"))


def test_odd_shapes_and_several_algorithms_are_reported_whole(tmp_path: Path) -> None:
    """Three ways of five emotions, two algorithms, one of them without a name in the table."""
    plus = "algorithms.other={name: fomaml, inner_lr: 0.1, steps: 1}"
    result = metaser(
        *small(tmp_path, "tasks.ways=3", "data.targets=[x-bel]", plus, "compare=[fmaml,other]"), "--protocol", "paper"
    )
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "fmaml" / "5shot" / "synthetic"
    assert "accuracy, 5 classes" in (folder / "table.md").read_text()
    confusion = pd.read_csv(folder / "confusion.csv")
    assert confusion["count"].notna().all()
    assert confusion.groupby("algorithm")["count"].sum().to_dict() == dict.fromkeys(
        ("fmaml", "other"), 3 * (3 * 5 + 2 * 3)
    )
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics.loc[metrics["n_tasks"] > 0, "mean"].notna().all()


def test_plots_and_table_can_be_drawn_anew_from_the_csv_files(finished: tuple[Path, Result], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    for name in ("table.md", "convergence-loss.png", "steps.png", "accuracy.png", "confusion.png"):
        (copy / name).unlink()
    assert metaser("render", FMAML, copy).returncode == 0
    for name in ("table.md", "convergence-loss.png", "steps.png", "accuracy.png", "confusion.png"):
        assert (copy / name).read_bytes() == (finished[0] / name).read_bytes()
    assert "Always giving the commonest answer would be right in 16.1 %" in (copy / "table.md").read_text()
    (copy / "run.json").write_text("{}")
    assert_refused(metaser("render", FMAML, copy), "run.json", "not what a run writes")
    (copy / "summary.csv").write_text("a,b\n1,2\n")
    assert_refused(metaser("render", FMAML, copy), "summary.csv", "lacks the column experiment")
    assert_refused(metaser("render", FMAML, tmp_path / "absent"), "absent", "cannot be read")


def experiment_copy(folder: Path, name: str, text: str) -> Path:
    """A copy of the F-MAML experiment with one file replaced."""
    copy = folder / "experiment"
    shutil.copytree(FMAML, copy)
    (copy / name).write_text(text)
    return copy


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("run.py", "def run(:", ["run.py", "cannot be imported"]),
        ("run.py", "import nothing_of_the_kind", ["run.py", "nothing_of_the_kind"]),
        ("run.py", "x = 1", ["run.py", "has no function render"]),
        ("paper.csv", "variant,value\n5shot,0.1\n", ["paper.csv", "lacks the column algorithm"]),
        ("config.yaml", "day: 2020-99-99\n", ["config.yaml", "cannot be read"]),
        ("config.yaml", "variants: {5: {}}\n", ["choose a variant", "5"]),
    ],
)
def test_a_broken_experiment_folder_is_named(tmp_path: Path, name: str, text: str, parts: list[str]) -> None:
    variant = [] if "variants" in text else ["--variant", "5shot"]
    assert_refused(metaser("run", experiment_copy(tmp_path, name, text), *variant, "--results", tmp_path / "r"), *parts)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [("0.2433", "lots", "row 2: the value is no number"), ("fomaml,emofilm,it", "fomaml,emofilm,en", "there twice")],
)
def test_a_wrong_row_of_a_papers_table_is_named_before_anything_is_trained(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    text = (FMAML / "paper.csv").read_text().replace(old, new, 1)
    folder = experiment_copy(tmp_path, "paper.csv", text)
    assert_refused(metaser("run", folder, "--variant", "5shot", "--results", tmp_path / "r"), "paper.csv", part)


def test_real_and_generated_corpora_are_never_mixed(open_root: Path, tmp_path: Path) -> None:
    mixed = "data.collections.open.corpora=[emodb, emovo, synthetic]"
    assert_refused(run(tmp_path / "r", mixed, data=open_root), "collection open", "never mixed")


def test_a_corpus_of_the_collection_lends_nothing(open_root: Path, tmp_path: Path) -> None:
    for emotion in EMOTIONS:
        for take in range(20):
            clip(tmp_path / "mine" / f"s{take % 4}" / emotion / f"{take}.wav", seed=take)
    mine = f"{{name: mine, path: {tmp_path / 'mine'}, language: el}}"
    corpora = f"data.collections.open={{corpora: [emodb, {mine}], neutral: [emodb]}}"
    assert_refused(run(tmp_path / "r", *FEW, corpora, data=open_root), "fixed class neutral", "el has no clip of it",
                   "data.collections.open.neutral")  # fmt: skip


def test_homes_of_nobody_are_named(tmp_path: Path) -> None:
    assert_refused(run(tmp_path / "r", data="~nosuchuser/x"), "METASER_DATA", "~nosuchuser/x")


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_run_ends_in_one_line_and_leaves_what_it_needs_to_go_on(stop: signal.Signals, tmp_path: Path) -> None:
    partial = tmp_path / "fmaml" / "5shot" / "synthetic.partial"
    settings = ("training.iterations=100000", "data.targets=[x-dor]")
    with start(command(*small(tmp_path, *settings), "--checkpoint-every", "1")) as running:
        try:
            assert until(
                lambda: list(partial.glob("checkpoints/*-seed0-*/*.safetensors")) or running.poll() is not None
            )
            running.send_signal(stop)
            _, errors = running.communicate(timeout=LIMIT)
        finally:
            running.kill()
    assert running.returncode == (130 if stop == signal.SIGINT else 2), errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("metaser: stopped")
    assert "the same command goes on" in last
    assert "Traceback" not in errors
    assert [entry.name for entry in partial.parent.iterdir()] == [partial.name]
    assert 1 <= len(list(partial.glob("checkpoints/*-seed0-*/*.safetensors"))) <= 2
    assert not list(partial.rglob("*.tmp"))
    assert_refused(
        run(tmp_path, "training.iterations=3", "data.targets=[x-dor]"), "another configuration", "--no-resume"
    )
    small_run = small(tmp_path, "data.targets=[x-dor]")
    assert metaser(*small_run, "--no-resume").returncode == 0
    assert [entry.name for entry in partial.parent.iterdir()] == ["synthetic"]


def test_data_list_shows_what_is_there_and_how_to_get_the_rest(open_root: Path) -> None:
    listed = metaser("data", "list", data=open_root)
    assert listed.returncode == 0
    assert f"140 of 535 clips in {open_root / 'emodb'}" in listed.stdout
    for name in ("emofilm", "ravdess", "tess", "savee", "iemocap", "shemo", "urdu"):
        assert name in listed.stdout
    assert "not there" in listed.stdout
    assert "none; set METASER_DATA" in metaser("data", "list").stdout
    assert_refused(metaser("data", "list", data=open_root / "nothing"), "METASER_DATA", "nothing")


def test_data_verify_exits_with_1_when_something_is_broken(tmp_path: Path) -> None:
    emovo(tmp_path, clips=1)
    (tmp_path / "emovo" / "f1" / "neu-f1-b1.wav").write_bytes(b"no audio")
    result = metaser("data", "verify", data=tmp_path)
    assert result.returncode == 1
    assert "f1/neu-f1-b1.wav" in result.stdout
    assert "BROKEN" in result.stdout
    assert_refused(metaser("data", "verify"), "no data root")
    assert_refused(metaser("data", "verify", "emodbb", data=tmp_path), "unknown corpus 'emodbb'", "'emodb'")
    assert_refused(metaser("data", "verify", "emodb", data=tmp_path), "no folder 'emodb'")


def test_data_probe_measures_within_and_across_languages(open_root: Path) -> None:
    result = metaser("data", "probe", "emodb", "emovo", data=open_root)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("within") == 3
    assert result.stdout.count("across") == 3


@pytest.mark.slow
def test_the_readme_says_what_a_linear_classifier_gets_on_the_synthetic_corpus() -> None:
    """Its two figures are those that the command prints, as near as processors agree, far from chance and certainty."""
    printed = metaser("data", "probe").stdout.splitlines()
    means = {line.split()[0]: float(line.split()[1]) for line in printed if line.startswith(("within", "across"))}
    section = (REPOSITORY / "README.md").read_text().split("\n## The synthetic corpus\n")[1].split("\n## ")[0]
    within, across, chance = map(float, re.findall(r"\b0\.\d{3}\b", section))
    assert (means["within"], means["across"], 1 / 6) == pytest.approx((within, across, chance), abs=0.005)
    assert 2.5 / 6 < means["across"] < means["within"] < 0.9


@pytest.mark.skipif(
    not all((Path(os.environ.get("METASER_DATA") or "/nowhere") / name).is_dir() for name in ("tess", "ravdess")),
    reason="METASER_DATA names no folder with tess and ravdess",
)
def test_verify_finds_what_is_known_of_the_real_corpora_and_nothing_broken() -> None:
    result = metaser("data", "verify", "tess", "ravdess", data=os.environ["METASER_DATA"])
    assert result.returncode == 0, result.stdout
    for name in ("OAF_food_fear", "OA_bite_neutral", "03-01-03-01-02-01-07", "03-01-03-01-02-02-07"):
        assert name in result.stdout
    assert "broken:" not in result.stdout


@pytest.mark.quick
def test_help_names_every_command_and_the_version_is_the_packages() -> None:
    for arguments in ((), ("data",), ("run",)):
        result = metaser(*arguments, "--help")
        assert result.returncode == 0
        assert "Usage" in result.stdout
    assert "metaser 0." in metaser("--version").stdout
    assert metaser("rum").returncode == 2
    assert process("data", "lst").returncode == 2


def test_importing_learn2learn_says_nothing() -> None:
    code = "from metaser.runtime.learn2learn import l2l; assert l2l.algorithms.MAML"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY,
                            timeout=LIMIT)  # fmt: skip
    assert result.stdout + result.stderr == ""


#: A python3 for make: one of another version, and ones that are this one, with or without its headers.
OLD = "print('Python 3.10.9'); raise SystemExit(1)"
WHOLE = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
HEADLESS = """
import runpy, sys, sysconfig
if sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    sysconfig.get_path = lambda name: "/nowhere"
    sys.path[0] = ""
    runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("python", "compiler", "part"),
    [
        (OLD, True, "needs Python 3.11, 3.12 or 3.13, and"),
        (None, True, "no "),
        (WHOLE, False, "no C compiler"),
        (HEADLESS, True, "no Python.h"),
    ],
    ids=["wrong-python", "no-python", "no-compiler", "no-headers"],
)
def test_make_says_what_is_missing_in_one_line(tmp_path: Path, python: str | None, compiler: bool, part: str) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    shutil.copytree(REPOSITORY / "packaging", tmp_path / "packaging")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for tool in ("sh", "cut", "rm", "make", *(["cc"] if compiler else [])):
        found = shutil.which(tool)
        assert found is not None, tool
        (binaries / tool).symlink_to(found)
    if python is not None:
        (binaries / "python3").write_text(f"#!{sys.executable}\n{python}\n")
        (binaries / "python3").chmod(0o755)
    variables = {"PATH": str(binaries), "HOME": str(tmp_path)}
    result = subprocess.run(
        [binaries / "make", "setup"], capture_output=True, text=True, cwd=tmp_path, env=variables, check=False,
        timeout=LIMIT,
    )  # fmt: skip
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("make: ") and "***" not in line]
    assert len(lines) == 1, result.stderr
    assert part in lines[0]
    assert not (tmp_path / ".venv").exists()


PLAIN = '''"""Joint training: the query gradient without any adaptation."""

from metaser.algorithms.base import MetaGradient
from metaser.algorithms.maml import FOMAML
from metaser.engine import Group


class Plain(FOMAML):
    """The whole of a new algorithm."""

    def meta_gradient(self, group: Group) -> MetaGradient:
        """The query gradient at the start."""
        return self.gradient(self.begin(group).query(group), group)
'''


def test_a_new_algorithm_is_one_new_file_and_one_line_and_runs_by_the_command(tmp_path: Path) -> None:
    """In a copy of the package: a file beside the others and its registration, then the unchanged experiment."""
    copy = tmp_path / "metaser"
    shutil.copytree(REPOSITORY / "metaser", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "algorithms" / "plain.py").write_text(PLAIN)
    registry = copy / "algorithms" / "__init__.py"
    registry.write_text(
        registry.read_text() + '\nfrom metaser.algorithms.plain import Plain\nALGORITHMS["plain"] = Plain\n'
    )
    arguments = small(tmp_path / "results", "algorithms.fmaml.name=plain", "data.targets=[x-dor]")
    result = subprocess.run(command(*arguments), cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)),
                            capture_output=True, text=True, check=False, timeout=LIMIT)  # fmt: skip
    assert result.returncode == 0, result.stderr
    facts = json.loads((tmp_path / "results" / "fmaml" / "5shot" / "synthetic" / "run.json").read_text())
    assert {settings["algorithms"]["fmaml"]["name"] for settings in facts["settings"].values()} == {"plain"}
    assert_refused(run(tmp_path / "results", "algorithms.fmaml.name=plain"), "unknown name 'plain'")
