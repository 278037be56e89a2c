"""`metaser train` on what is there, and the names of the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

import metaser
from metaser import cli, config
from metaser.adaptation import training
from metaser.corpora.selection import Selection, announce
from support import REPOSITORY

RATE = 16000

#: One combination of options, so that there is nothing to choose.
ONE = "algorithms.gaussian.gaussian={own: 0.3, shrinkage: 0.5, prior: 10, temperature: 0.1}"


def made_up(root: Path, names: tuple[str, ...]) -> Path:
    """EMO-DB, RAVDESS and EMOVO in miniature: three clips of each of six emotions by each of two speakers."""
    rng = np.random.default_rng(0)
    ravdess, emovo = ("05", "07", "06", "03", "01", "04"), ("rab", "dis", "pau", "gio", "neu", "tri")
    codes = {
        "emodb": lambda s, e, n: f"wav/{('03', '08')[s]}a0{(1, 2, 4)[n]}{'WEAFNT'[e]}a.wav",
        "ravdess": lambda s, e, n: f"Actor_0{s + 1}/03-01-{ravdess[e]}-01-0{n % 2 + 1}-0{n // 2 + 1}-0{s + 1}.wav",
        "emovo": lambda s, e, n: f"{('f1', 'm1')[s]}/{emovo[e]}-{('f1', 'm1')[s]}-b{n + 1}.wav",
    }
    for name in names:
        for speaker in range(2):
            for emotion in range(6):
                for number in range(3):
                    path = root / name / codes[name](speaker, emotion, number)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, 0.1 * rng.normal(size=RATE // 4), RATE)
    return root


@pytest.mark.parametrize("there", [("emodb", "ravdess"), ("emovo",), ("emodb", "ravdess", "emovo")], ids="+".join)
def test_train_uses_the_corpora_that_are_there_and_says_what_is_missing(
    there: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METASER_DATA", str(made_up(tmp_path / "data", there)))
    monkeypatch.chdir(tmp_path)  # an empty folder: the experiment is found all the same
    small = [part for setting in ("tasks.shots=1", "tasks.queries=1", "evaluation.queries=2", "evaluation.min_queries=1",
                                  ONE) for part in ("--set", setting)]  # fmt: skip
    done = CliRunner().invoke(cli.app, ["train", "x.safetensors", "--json", *small])
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["clips"] == dict.fromkeys(there, 36)
    titles = {"emodb": "German (EMODB): 36", "ravdess": "English (RAVDESS): 36", "emovo": "Italian (EMOVO): 36"}
    for name, title in titles.items():
        assert (title in done.stderr) == (name in there)
    missing = [name for name in titles if name not in there]
    assert (f"left out: {', '.join(missing)} (`metaser data fetch {' '.join(missing)}`" in done.stderr) == bool(missing)


def test_what_is_there_decides_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first collection that has anything; what the user names stays; an empty data root is no silent one."""

    def data(use: str = "auto") -> config.Data:
        collections = {
            "one": {"corpora": ["emofilm"]},
            "two": {"corpora": ["emodb", "tess"]},
            "made": {"corpora": ["synthetic"]},
        }
        return config.Data.model_validate({"collections": collections, "emotions": ["anger", "fear"], "use": use})

    (tmp_path / "tess").mkdir()
    assert training.present(data(), tmp_path)[:2] == ["data.use=two", "data.collections.two.at_least=1"]
    assert training.present(data("two"), tmp_path) == []
    assert training.present(data(), None)[0] == "data.use=made"
    assert capsys.readouterr().err == ""
    (tmp_path / "empty").mkdir()
    assert training.present(data(), tmp_path / "empty")[0] == "data.use=made"
    assert f"{tmp_path / 'empty'}: holds none of emofilm, emodb, tess" in capsys.readouterr().err


def test_what_is_missing_is_named_with_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"domain": ["de"], "language": ["de"], "corpus": ["emodb"]})
    announce(Selection("open", "real", table, ("de",), {"de": "German (EMODB)"}, ("tess", "iemocap")), None)
    assert (
        "left out: tess, iemocap (`metaser data fetch tess` gets it; `metaser data list` says"
        in capsys.readouterr().err
    )


def test_the_package_shows_what_it_offers_and_imports_it_when_asked() -> None:
    assert {"load", "adapt", "train"} <= set(dir(metaser))
    code = "import sys, metaser; dir(metaser); assert 'torch' not in sys.modules; metaser.train; assert 'torch' in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
