"""The cache of features: what it costs, what it survives, who may share it; and clips that are checked before any is computed."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from metaser.corpora.audio import LOUDEST, read_samples
from metaser.corpora.base import COLUMNS
from metaser.features import compute, extract, extraction, recipe
from metaser.features.cache import STALE, Cache
from metaser.runtime.errors import UserError
from metaser.runtime.files import remove_unfinished, replacing, write_text
from support.limit import LIMIT

FMAML = recipe("fmaml")


def noise(seed: int, seconds: float = 0.2) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))


def table_of(paths: list[Path]) -> pd.DataFrame:
    rows = pd.DataFrame({"path": [str(path) for path in paths]}, columns=list(COLUMNS)).fillna("")
    return rows.assign(corpus="made", language="de")


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METASER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Six clips."""
    paths = [tmp_path / f"{number}.wav" for number in range(6)]
    for number, path in enumerate(paths):
        soundfile.write(path, noise(number), 16000)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that are decoded, and those that are computed once more."""
    seen: list[str] = []
    for name in ("decoded", "read_waveform"):
        read = getattr(extraction, name)
        monkeypatch.setattr(
            extraction, name, lambda path, *rest, read=read: seen.append(Path(path).name) or read(path, *rest)
        )
    return seen


# What a change costs


def test_one_clip_that_is_changed_or_new_is_all_that_is_computed(clips: list[Path], decoded: list[str]) -> None:
    before = extract(table_of(clips), FMAML)
    decoded.clear()
    soundfile.write(clips[2], noise(99), 16000)
    after = extract(table_of(clips), FMAML)
    assert decoded == ["2.wav", "2.wav"], "checked, then computed"
    assert [torch.equal(*pair) for pair in zip(before.x, after.x, strict=True)] == [True, True, False, True, True, True]
    assert after.digest != before.digest
    decoded.clear()
    new = clips[0].with_name("new.wav")
    soundfile.write(new, noise(7), 16000)
    extract(table_of([*clips, new]), FMAML)
    assert decoded == ["new.wav", "new.wav"]


def test_a_part_of_a_corpus_and_one_put_together_cost_nothing(clips: list[Path], decoded: list[str]) -> None:
    whole = extract(table_of(clips), FMAML)
    decoded.clear()
    steps: list[tuple[int, int]] = []
    part = extract(table_of(clips[4:] + clips[:1]), FMAML, lambda done, total: steps.append((done, total)))
    assert decoded == []
    assert steps == [(3, 3)]
    assert torch.equal(part.x, whole.x[[4, 5, 0]])


def test_clips_with_the_same_contents_are_computed_once(clips: list[Path], decoded: list[str]) -> None:
    twin = clips[0].with_name("twin.wav")
    twin.write_bytes(clips[0].read_bytes())
    steps: list[tuple[int, int]] = []
    found = extract(
        table_of([clips[0], clips[1], twin, clips[0]]), FMAML, lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 2), (2, 2)]
    assert torch.equal(found.x[0], found.x[2])
    assert torch.equal(found.x[0], found.x[3])
    assert not torch.equal(found.x[0], found.x[1])


def test_what_comes_from_the_cache_is_what_was_computed(clips: list[Path]) -> None:
    computed, cached = (extract(table_of(clips), FMAML) for _ in range(2))
    assert torch.equal(computed.x, cached.x)
    assert torch.equal(computed.lengths, cached.lengths)
    assert computed.digest == cached.digest
    assert 1 < computed.lengths[0] < FMAML.shape[1], "there is padding"
    for row, path in enumerate(clips):
        features, valid = compute(torch.from_numpy(read_samples(path)[0]), FMAML)
        assert torch.equal(features, cached.x[row])
        assert valid == cached.lengths[row]


def test_the_digest_is_that_of_contents_in_order_and_recipe(tmp_path: Path) -> None:
    """Results on disk hold such digests: they must not change."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    known = [digest(tmp_path / name) for name in "ab"]
    expected = "3e8ecd2f1b64a3f9ce3d5e91b473b7a7e729e347d943681a26c8cf4715f2c4f7"
    assert Cache(FMAML).digest(known) == expected
    assert Cache(FMAML).digest(known[::-1]) != expected
    assert Cache(recipe("metaser")).digest(known) != expected


# What it survives


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "no frames", "another clip's"])
def test_a_damaged_file_is_computed_again(clips: list[Path], decoded: list[str], cache: Path, damage: str) -> None:
    good = extract(table_of(clips), FMAML)
    (file,) = [path for path in files(cache) if path.name == digest(clips[3]).hex()]
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one byte":
        content[100] ^= 1
    elif damage == "another clip's":
        content = next(path for path in files(cache) if path != file).read_bytes()
    else:
        content = content[-4:] if damage == "no frames" else b""
    file.write_bytes(content)
    decoded.clear()
    again = extract(table_of(clips), FMAML)
    assert set(decoded) == {"3.wav"}
    assert torch.equal(good.x, again.x)
    decoded.clear()
    extract(table_of(clips), FMAML)
    assert decoded == []


KILLED = """
import os, sys
from metaser.features import extract, extraction, recipe
import pandas as pd
compute, done = extraction.checked, []
def last(*arguments):
    if len(done) == 4:
        os._exit(9)
    done.append(1)
    return compute(*arguments)
extraction.checked = last
extract(pd.DataFrame({"path": sys.argv[1:]}), recipe("fmaml"), workers=1)
"""


def test_what_was_computed_before_a_kill_is_kept(clips: list[Path], decoded: list[str], cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, clips)], timeout=LIMIT, check=False)
    assert killed.returncode == 9
    assert len(files(cache)) == 4
    extract(table_of(clips), FMAML)
    assert sorted(set(decoded)) == ["4.wav", "5.wav"]
    assert len(files(cache)) == 6


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(clips: list[Path], cache: Path) -> None:
    extract(table_of(clips), FMAML)
    folder = Cache(FMAML).folder
    old, new = folder / ".0123456789abcdef.tmp", folder / ".fedcba9876543210.tmp"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - 2 * STALE,) * 2)
    extract(table_of(clips), FMAML)
    assert not old.exists()
    assert new.exists()


def test_nothing_but_a_file_per_clip_is_left_behind(clips: list[Path], cache: Path) -> None:
    extract(table_of(clips), FMAML)
    digests = sorted(digest(path).hex() for path in clips)
    assert [path.name for path in files(cache.parent)] == digests
    assert {path.parent.name for path in files(cache)} == {name[:2] for name in digests}


# Who may share it


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_that_the_user_gives_new_ones(clips: list[Path], cache: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        extract(table_of(clips), FMAML)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(cache)} == {0o666 & ~mask}


@pytest.mark.parametrize("mode", [0o755, 0o2775, 0o1777, 0o700])
def test_folders_have_the_permissions_of_the_caches_own(clips: list[Path], cache: Path, mode: int) -> None:
    """So that users who may write into the cache may write everywhere in it."""
    cache.parent.mkdir()
    cache.parent.chmod(mode)
    before = os.umask(0o022)
    try:
        extract(table_of(clips), FMAML)
    finally:
        os.umask(before)
    folders = [path for path in cache.parent.rglob("*") if path.is_dir()]
    assert len(folders) >= 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {mode}


CONTAINER = """
import os, sys
from pathlib import Path
os.getpid = lambda: 7
from metaser.runtime.files import replacing
for _ in range(300):
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.write_text(sys.argv[2] * 1000)
"""


def test_processes_of_the_same_number_do_not_disturb_one_another(tmp_path: Path) -> None:
    """As those of two containers are."""
    path = tmp_path / "shared" / "file"
    running = [
        subprocess.Popen([sys.executable, "-c", CONTAINER, str(path), letter], stderr=subprocess.PIPE, text=True)
        for letter in "ab"
    ]
    for process in running:
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert files(tmp_path) == [path]


def test_two_temporary_names_of_one_file_are_two(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "the outer one ends last"
    assert files(tmp_path) == [path]


def test_a_name_of_any_length_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_unfinished_files_of_a_folder_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".0123456789abcdef.tmp").write_text("half")
    (tmp_path / "whole").write_text("whole")
    remove_unfinished(tmp_path)
    assert files(tmp_path) == [tmp_path / "whole"]


# Bad clips


def make_missing(path: Path) -> None:
    path.unlink()


def make_loud(path: Path) -> None:
    soundfile.write(path, np.array([1.0, -10 * LOUDEST], dtype=np.float32), 16000, subtype="FLOAT")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BAD: dict[str, Callable[[Path], object]] = {
    "no such file": make_missing,
    "not readable as audio": lambda path: path.write_text("no audio"),
    "holds no samples": lambda path: soundfile.write(path, np.zeros(0), 16000),
    "holds NaN": lambda path: soundfile.write(path, np.array([0, np.nan]), 16000, subtype="FLOAT"),
    "scale them to between -1 and 1": make_loud,
    "Is a pipe": make_pipe,
}


def test_all_bad_clips_are_named_together_before_anything_is_computed(
    tmp_path: Path, clips: list[Path], decoded: list[str], cache: Path
) -> None:
    good = clips[0].with_name("good.wav")
    soundfile.write(good, noise(50), 16000)
    for path, make in zip(clips, BAD.values(), strict=True):
        make(path)
    message = message_of(table_of([good, *clips]))
    assert message.startswith(f"6 clips cannot be used: {clips[0]}: ")
    for path, reason in zip(clips, BAD, strict=True):
        (part,) = [part for part in message.split(f"{tmp_path}/") if part.startswith(path.name)]
        assert reason in part
    assert files(cache) == []


def message_of(table: pd.DataFrame) -> str:
    """What `extract` refuses a table with, within a limit: opening a pipe would wait for ever."""
    found: list[str] = []

    def run() -> None:
        with pytest.raises(UserError) as caught:
            extract(table, FMAML)
        found.append(str(caught.value))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert found, "it hangs, or was not refused"
    assert "\n" not in found[0]
    return found[0]


def test_of_many_bad_clips_ten_are_named_and_the_others_counted(tmp_path: Path, clips: list[Path]) -> None:
    missing = [tmp_path / f"missing{number:02}.wav" for number in range(14)]
    message = message_of(table_of([*clips, *missing]))
    assert [path.name in message for path in missing] == [True] * 10 + [False] * 4
    assert message.endswith("; and 4 more")


def test_a_bad_clip_loses_nothing_that_was_computed_before(clips: list[Path], decoded: list[str]) -> None:
    extract(table_of(clips[:5]), FMAML)
    decoded.clear()
    clips[5].write_text("no audio")
    message_of(table_of(clips))
    assert decoded == ["5.wav"]


def test_a_clip_of_many_hours_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not decoded first: that takes minutes, and gigabytes."""
    monkeypatch.setattr("metaser.corpora.audio.MOST", 1000)
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(0), 16000)

    def decode(*arguments: object, **options: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", decode)
    with pytest.raises(UserError, match=f"{path}: is 0 minutes long, 3200 samples, and a clip has 1000 at most"):
        read_samples(path)
