"""Features of more speech than fits into memory: extracted, normalised and sampled with little of it there at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metaser.features import FeatureSet, extract, normalise, recipe, storage
from metaser.features.normalisation import normalise_by
from metaser.runtime.errors import UnwritableError
from support.limit import LIMIT
from support.tasks import utterances

FMAML = recipe("fmaml")


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Arrays of a kilobyte lie in files, and are worked on three rows at a time; the folder of these files."""
    monkeypatch.setenv("METASER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "LARGE", 1024)
    monkeypatch.setattr(storage, "CHUNK", 3 * 4 * 4 * 5)
    return tmp_path / "cache"


def before(x: torch.Tensor, lengths: torch.Tensor, groups: Iterable[tuple[np.ndarray, np.ndarray]]) -> torch.Tensor:
    """z-scores by each group's whole array at once: what `normalise_by` has to equal to the bit."""
    values, valid = x.numpy(), np.arange(x.shape[2]) < lengths.numpy()[:, None]
    scores = np.zeros_like(values)
    for rows, lenders in groups:
        used = valid[lenders][:, None, :] & np.isfinite(values[lenders])
        count = np.maximum(used.sum(axis=(0, 2), keepdims=True), 1)
        numbers = values[lenders].astype(np.float64)
        mean = np.where(used, numbers, 0.0).sum(axis=(0, 2), keepdims=True) / count
        squares = np.square(np.where(used, numbers - mean, 0)).sum(axis=(0, 2), keepdims=True)
        deviation = np.sqrt(squares / count)
        constant = deviation <= np.abs(mean) * np.finfo(np.float32).eps
        own = valid[rows][:, None, :] & np.isfinite(values[rows])
        centred = np.where(own, values[rows].astype(np.float64) - mean, 0)
        scores[rows] = np.where(constant, 0, centred / np.where(constant, 1, deviation))
    return torch.from_numpy(scores)


def made(rows: int, coefficients: int, frames: int) -> FeatureSet:
    """Random features of clips of several lengths, far from 0, some of them not finite."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(rows, coefficients, frames)) * 30 - 400).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = np.nan
    lengths = rng.integers(1, frames + 1, rows)
    x *= np.arange(frames) < lengths[:, None, None]
    table = utterances(clips=rows, domains=("aa",), classes=("fear", "anger")).iloc[:rows]
    table = table.assign(speaker=[f"s{n % 7}" for n in range(rows)], emotion=["silence", "fear", "anger"] * (rows // 3))
    return FeatureSet(torch.from_numpy(x), torch.from_numpy(lengths), table.reset_index(drop=True), "made")


@pytest.mark.parametrize("frames", [1, 5, 40, 300])
@pytest.mark.parametrize("chunk", [1, 7 * 4 * 4, 10_000, 1 << 30])
def test_z_scores_chunk_by_chunk_have_the_bits_of_those_at_once(
    monkeypatch: pytest.MonkeyPatch, chunk: int, frames: int
) -> None:
    monkeypatch.setattr(storage, "CHUNK", chunk)
    features = made(150, 13, frames)
    everything = np.arange(150)
    groups = [(everything[n::3], everything[n % 2 :: 2]) for n in range(3)] + [(everything[:9], everything)]
    found = normalise_by(features.x, features.lengths, groups)
    assert torch.equal(found, before(features.x, features.lengths, groups))
    assert found.abs().sum() > 0


@pytest.mark.parametrize("how", ["speaker", "language", "utterance"])
def test_an_array_in_a_file_has_the_bits_of_one_in_memory(
    mapped: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    features = made(150, 4, 5)
    in_file = normalise(features, how)
    monkeypatch.setattr(storage, "LARGE", 1 << 30)
    assert torch.equal(in_file.x, normalise(features, how).x)


def test_extracted_features_may_lie_in_a_file(mapped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(9)]
    for number, path in enumerate(paths):
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(3000), 16000)
    table = pd.DataFrame({"path": [str(path) for path in paths]})
    computed, cached = (extract(table, FMAML) for _ in range(2))
    monkeypatch.setattr(storage, "LARGE", 1 << 30)
    assert torch.equal(computed.x, extract(table, FMAML).x)
    assert torch.equal(computed.x, cached.x)
    assert {path.name for path in mapped.iterdir()} == {"features"}, "its file has no name"
    rows = torch.tensor([3, 1, 3])
    assert torch.equal(cached.x[rows][0], cached.x[3])


def test_what_is_released_is_still_there(mapped: Path) -> None:
    x = storage.zeros(100, 4, 5)
    x.copy_(torch.arange(2000.0).reshape(100, 4, 5))
    storage.release(x)
    assert torch.equal(x.flatten(), torch.arange(2000.0))
    in_memory = torch.ones(3)
    storage.release(in_memory)
    assert in_memory.tolist() == [1, 1, 1]


def test_an_array_for_which_the_disk_has_no_room_is_refused(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnwritableError, match=r"no room for an array of 7 MiB \(No space left on device\)"):
        storage.zeros(100, 100, 200)


#: Makes clips, goes through what a run does with a table that names them over and over, and tells the most memory it took.
RUN = """
import json, resource, sys
from pathlib import Path
import numpy as np, pandas as pd, soundfile, torch
from metaser.features import extract, normalise, recipe, storage
from metaser.tasks import EpisodeSampler, SpeechTasks, TaskShape

folder, clips, rows, large, name = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
storage.LARGE = large
paths = [str(folder / f"{n}.wav") for n in range(clips)]
for n, path in enumerate(paths):
    soundfile.write(path, 0.1 * np.random.default_rng(n).standard_normal(48000), 16000)
started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
emotions = ("anger", "fear", "happiness", "sadness", "disgust", "neutral", "silence")
row = np.arange(rows)
table = pd.DataFrame({"path": [paths[n % clips] for n in row], "corpus": "made",
                      "language": np.array(["de", "it"])[row % 2], "speaker": [f"s{n % 1000}" for n in row], "gender": "",
                      "emotion": [emotions[n % 7] for n in row], "text": "", "group": [f"g{n}" for n in row]})
table["domain"] = table["language"]
features = extract(table, recipe(name))
features = normalise(features, "language")
features = normalise(features, "speaker")
shape = TaskShape(ways=5, shots=5, queries=10, min_queries=5, fixed=("neutral", "silence"), fixed_queries=10)
tasks = SpeechTasks(features.x, list(features.table["emotion"]), EpisodeSampler(table, ["de", "it"], emotions[:5], shape, "train"),
                    seed=0)
for number in range(int(sys.argv[6])):
    task = tasks.task(0, number)
assert torch.isfinite(task.query_x).all()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"bytes": features.x.nbytes, "started": started * 1024, "peak": peak * 1024,
                  "hours": 3 * rows / 3600}))
"""


def measured(
    folder: Path, clips: int, rows: int, large: int, name: str = "fmaml", tasks: int = 50, seconds: float = LIMIT
) -> dict[str, float]:
    environment = {**os.environ, "METASER_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", RUN, folder, clips, rows, large, name, tasks]
    done = subprocess.run(
        list(map(str, command)), env=environment, timeout=seconds, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_an_array_takes_little_memory_at_a_time(tmp_path: Path) -> None:
    """Twice the array and more would be there without files: what was extracted, and what was normalised."""
    found = measured(tmp_path, clips=40, rows=60_000, large=1 << 20, tasks=5)
    assert found["bytes"] > 380e6
    assert found["peak"] - found["started"] < found["bytes"]


@pytest.mark.slow
def test_two_hundred_hours_take_less_than_four_gigabytes(tmp_path: Path) -> None:
    found = measured(tmp_path, clips=2000, rows=240_000, large=storage.LARGE, tasks=2000, seconds=580)
    assert found["hours"] >= 200
    assert found["bytes"] > 1.5e9
    assert found["peak"] < 4e9
