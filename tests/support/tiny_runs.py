"""Runs of three small models on a few clips of noise, for tests of what runs do with what they have finished."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import soundfile

from metaser.reporting.kept import name_of
from support import REPOSITORY

FMAML = REPOSITORY / "experiments" / "fmaml"

#: The models, in the order of the run.
THREE = ("fmaml", "fomaml", "supervised")

#: The files that are the same to the byte whenever a run's numbers are.
REPEATED = ("metrics.csv", "tasks.csv", "summary.csv", "confusion.csv", "table.md")

#: An experiment that draws next to nothing, which is most of what a tiny run spends its time on.
PLAIN = """
from metaser.runtime.files import write_text

def render(finished, paper):
    write_text(finished.folder / "drawn.txt", finished.what)
    write_text(finished.folder / "table.md", f"# {finished.what}\\n\\n{finished.summary.to_csv()}")
"""


def plain(folder: Path) -> Path:
    """experiments/fmaml, drawing next to nothing."""
    folder.mkdir()
    for name in ("config.yaml", "paper.csv"):
        shutil.copy(FMAML / name, folder)
    (folder / "run.py").write_text(PLAIN)
    return folder


def speech(root: Path) -> Path:
    """Noise in two languages, four voices, two emotions and neutral."""
    clips = itertools.product(("aa", "bb"), "stuv", ("anger", "fear", "neutral"), "12")
    for seed, (language, speaker, emotion, take) in enumerate(clips):
        path = root / language / speaker / emotion / f"{take}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=16000), 16000)
    return root


def settings(speech: Path, *more: str, compare: tuple[str, ...] = THREE) -> tuple[str, ...]:
    """``key=value`` of a run of these models."""
    corpora = ", ".join(f"{{name: {name}, path: {speech / name}, language: {name}}}" for name in ("aa", "bb"))
    return (f"data.collections.open.corpora=[{corpora}]", "data.use=open", "data.emotions=[anger, fear]", "data.targets=[aa]",
            "tasks.ways=2", "tasks.fixed=[neutral]", "tasks.shots=1", "tasks.queries=1", "tasks.fixed_queries=1",
            "training.iterations=3", "training.meta_batch=1", "training.monitor_every=1", "training.monitor_tasks=1",
            "training.log_every=1", "evaluation.tasks=3", "evaluation.queries=1", "evaluation.min_queries=1",
            "evaluation.fixed_queries=1", "seeds=[0]", "evaluation.steps=[]", f"compare=[{', '.join(compare)}]",
            *more)  # fmt: skip


def command(
    experiment: Path, speech: Path, results: Path, *more: str, compare: tuple[str, ...] = THREE, processes: int = 1
) -> list[str]:
    """The command line of such a run, without ``metaser``."""
    chosen = [part for setting in settings(speech, *more, compare=compare) for part in ("--set", setting)]
    return ["run", str(experiment), "--variant", "5shot", "--protocol", "strict", "--results", str(results), "--processes",
            str(processes), *chosen]  # fmt: skip


def final(results: Path) -> Path:
    """Where such a run's results are."""
    return results / "fmaml" / "5shot" / "real"


def partial(results: Path) -> Path:
    """Where what it has finished is kept until then."""
    return results / "fmaml" / "5shot" / "real.partial"


def model_file(results: Path, algorithm: str, seed: int = 0) -> Path:
    """Where one of its models is kept."""
    model = {"protocol": "strict", "source": "", "target": "aa", "algorithm": algorithm, "seed": seed}
    return partial(results) / "models" / f"{name_of(model)}.json"


def kept(results: Path) -> set[str]:
    """The algorithms of the models that are kept."""
    files = (partial(results) / "models").glob("*.json")
    return {json.loads(file.read_text())["content"]["model"]["algorithm"] for file in files}


def assert_same(found: Path, wanted: Path) -> None:
    """Both folders hold the same results, and nothing is left beside the one that was found."""
    for name in REPEATED:
        assert (found / name).read_bytes() == (wanted / name).read_bytes(), name
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in wanted.iterdir())
    assert [path.name for path in found.parent.iterdir()] == [found.name]
