"""Experiments on clips of one's own: the page's commands, and classes that another corpus lends."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaser import config
from metaser.corpora.selection import select
from metaser.experiment import Run
from metaser.runtime.errors import UserError
from metaser.tasks import EpisodeSampler, TaskShape
from support import REPOSITORY
from support.tasks import EMOTIONS, utterances

KNOWN = ("anger", "happiness", "sadness")


def listing(folder: Path, languages: tuple[str, ...] = ("eo", "ia"), emotions: tuple[str, ...] = KNOWN) -> Path:
    """A CSV file of two languages with three emotions, four speakers each."""
    rows = ["path,emotion,speaker,language"]
    for language in languages:
        for number in range(4):
            rows += [f"{language}/s{number}/{emotion}/{10 * number + clip}.wav,{emotion},{language}{number},{language}"
                     for emotion in emotions for clip in range(3)]  # fmt: skip
    for row in rows[1:]:  # nothing is decoded
        path = folder / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder / "clips.csv"


@pytest.mark.parametrize("experiment", ["adapt", "fmaml"])
def test_the_commands_for_clips_of_ones_own_have_the_right_settings(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the page, from the folder that holds the CSV file; every model's tasks can be drawn."""
    text = (REPOSITORY / "docs" / "adding_a_corpus.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^    metaser (run experiments/{experiment} .*)$", text, re.MULTILINE)
    _, folder, _, variant, *rest = shlex.split(command)
    assert set(rest[::2]) == {"--set"}
    listing(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = Run(REPOSITORY / folder, variant, rest[1::2], tmp_path / "results")
    trials = run.trials.all()
    assert {trial.target for trial in trials} == {"eo", "ia"}
    for trial in trials:
        for sampler in run.trials.samplers(trial).values():
            episode = sampler.draw(np.random.default_rng(0))
            assert sorted(episode.classes) == sorted(KNOWN)
            assert len(episode.support_index) == 3 * run.first.tasks.shots


def own(table: Path, neutral: tuple[str, ...] = ()) -> config.Data:
    corpus = {"name": "own", "path": str(table), "language": "eo"}
    return config.Data.model_validate(
        {"collections": {"own": {"corpora": [corpus], "neutral": neutral}}, "emotions": list(KNOWN)}
    )


def test_a_class_that_nobody_lends_is_named_with_what_to_set(tmp_path: Path) -> None:
    table, tasks = listing(tmp_path), config.Tasks(ways=3, shots=1, fixed=("neutral", "silence"))
    lacks = "fixed class neutral: eo, ia has no clip of it, and "
    with pytest.raises(UserError) as nobody:
        select(own(table), tasks, None)
    assert str(nobody.value) == (f"{lacks}data.collections.own.neutral names no corpus outside the collection to lend some; "
                                 "name one there, or set tasks.fixed=[silence]")  # fmt: skip
    with pytest.raises(UserError) as absent:
        select(own(table, ("tess", "emodb")), tasks, None)
    assert f"{lacks}no corpus that data.collections.own.neutral names (tess, emodb) is there" in str(absent.value)


@pytest.mark.parametrize(("speakers", "lends"), [(2, False), (4, True)])
def test_a_lender_with_too_few_speakers_is_blamed_itself(speakers: int, lends: bool) -> None:
    table = utterances(classes=EMOTIONS, silence=0)
    lent = [("/tess/n.wav", "tess", "en", f"t{n % speakers}", "", "neutral", "", f"tess/{n}", "*") for n in range(60)]
    table = pd.concat([table, pd.DataFrame(lent, columns=table.columns)], ignore_index=True)
    shape = TaskShape(5, 1, 3, 1, fixed=("neutral",), fixed_queries=3, fixed_shots=1, speakers="disjoint")
    for part in ("train", "test"):
        if lends:
            EpisodeSampler(table, ["aa", "bb"], EMOTIONS, shape, part).draw(np.random.default_rng(0))
            continue
        with pytest.raises(
            UserError, match=rf"neutral, which aa lacks, is lent by tess: 1 .* {part} tasks, 2 are .* 4 speakers"
        ):
            EpisodeSampler(table, ["aa", "bb"], EMOTIONS, shape, part)
