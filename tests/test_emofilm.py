"""The F-MAML paper's own corpus, EmoFilm, made up in its exact grammar: every method runs, and strict keeps scenes apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from metaser.config.study import Study
from metaser.experiment import Run
from metaser.experiment.trials import Trial
from metaser.training import methods
from support import FMAML
from support.commands import FEW, SMALL, metaser
from support.corpora import clip, emodb

CODES = ("ans", "dis", "gio", "rab", "tri")
LANGUAGES = ("en", "it", "es")
SETTINGS = (*SMALL, *FEW, "tasks.fixed_shots=2", "evaluation.tasks=2", "training.iterations=1")


def scenes(language: str) -> dict[int, str]:
    """Scene → which languages dub it: six in all three, four in each pair, eight in this one alone."""
    alone = {100 + 20 * LANGUAGES.index(language) + n: "alone" for n in range(8)}
    pairs = {
        200 + 20 * LANGUAGES.index(other) + n: "pair" for other in LANGUAGES if other != language for n in range(4)
    }
    return {**dict.fromkeys(range(1, 7), "all"), **alone, **pairs}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every film has its dubbing actors; a few of them work in two languages."""
    root = tmp_path_factory.mktemp("emofilm")
    book = openpyxl.Workbook()
    sheets = {"f": book.create_sheet("female"), "m": book.create_sheet("male")}
    for sheet in sheets.values():
        sheet.append(["file", "speaker", "film"])
    for language in LANGUAGES:
        for code in CODES:
            for number, scene in enumerate(scenes(language)):
                gender = "fm"[scene % 2]
                stem = f"{gender}_{code}{scene:03}{'ab'[scene % 3 == 0]}{language}"
                speaker = "Both Tongues" if number == 7 and language != "es" else f"Actor {language} {number % 6}"
                sheets[gender].append([stem, speaker, f"film {scene % 4}"])
                clip(root / "emofilm" / "wav_corpus" / f"{stem}.wav", seed=scene)
    book.save(root / "emofilm" / "f_m_corpus_it_es_en_legend.xlsx")
    emodb(root)
    return root


@pytest.fixture(scope="module")
def strict(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(FMAML, "5shot", SETTINGS, tmp_path_factory.mktemp("strict"), ["strict"], root)


@pytest.mark.slow
def test_every_method_runs_on_it_beside_the_papers_numbers(root: Path, tmp_path: Path) -> None:
    every = list(Study(FMAML / "config.yaml", methods).experiment(variant="5shot").algorithms)
    assert {*every} == {"fmaml", "fomaml", "supervised", "zero-shot", "tuned-head", "tuned-all", "protonet", "classical",
                        "best"}  # fmt: skip
    chosen = [part for setting in (*SETTINGS, f"compare={every}", "data.targets=[it]") for part in ("--set", setting)]
    command = ["run", FMAML, "--variant", "5shot", "--protocol", "strict", "--results", tmp_path, *chosen]
    result = metaser(*command, data=root)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "fmaml" / "5shot" / "real"
    summary = pd.read_csv(folder / "summary.csv")
    here = summary[summary["metric"] == "accuracy"].set_index(["target", "algorithm"])
    assert set(here.loc["it"].index) == {*every}
    beside = here["paper"].unstack("algorithm").dropna(axis=1, how="all")
    assert set(beside.columns) == {"fmaml", "fomaml", "supervised"}
    assert beside.loc["it"].to_dict() == {"fmaml": 0.6913, "fomaml": 0.6413, "supervised": 0.1619}
    assert (pd.read_csv(folder / "paired.csv")["n_tasks"] == 2).all(), "paired over the same tasks"
    assert "borrowed" in (folder / "table.md").read_text()
    run = json.loads((folder / "run.json").read_text())
    assert set(run["chosen"]) == {"strict/best/en+es/it/0"}


@pytest.mark.parametrize("target", LANGUAGES)
def test_strict_never_shares_a_scene_or_a_speaker_with_the_target(strict: Run, target: str) -> None:
    table, trial = strict.speech.table, Trial("strict", "fmaml", target, 0)
    tested = table[(table["domain"] == target) & (table["corpus"] == "emofilm")]
    for sampler in (strict.trials.samplers(trial)[""], strict.trials.sampler(trial, as_tested=True)):
        rows = {row for classes in sampler.clips.values() for clips in classes.values() for row in clips.rows}
        trained = table.loc[sorted(rows)]
        film = trained[trained["corpus"] == "emofilm"]
        assert set(film["language"]) == set(LANGUAGES) - {target}
        assert not set(film["text"]) & set(tested["text"]), "no scene, dubbed or not"
        assert not set(film["speaker"]) & set(tested["speaker"])
        kept = {int(text[-3:]) for text in film["text"]}
        assert kept, "scenes that the target does not have are left"
        assert not kept & set(scenes(target))


@pytest.mark.parametrize("target", LANGUAGES)
def test_strict_tasks_share_no_speaker_between_support_and_query(strict: Run, target: str) -> None:
    table, samplers = strict.speech.table, strict.trials.samplers(Trial("strict", "fmaml", target, 0))
    for sampler in samplers.values():
        for seed in range(30):
            episode = sampler.draw(np.random.default_rng(seed))
            support, query = (table.loc[rows] for rows in (episode.support_index, episode.query_index))
            assert not set(support["corpus"] + support["speaker"]) & set(query["corpus"] + query["speaker"])
            assert not set(support["group"]) & set(query["group"])
