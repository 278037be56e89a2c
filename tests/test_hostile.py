"""Hostile input, family by family: every bad file ends in one line that names it, or in a right result; never otherwise.

`hostile_family.Family` counts the inputs, and holds each to it that nothing hangs, nothing but a refusal is raised, and
nothing is written anywhere on the ground. Seeds are fixed. What metaser reads of its own is in `test_hostile_own`.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

import matplotlib.font_manager  # noqa: F401  (makes its cache in the home of the moment, once a process)
import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metaser.cli.listing import describe, listing
from metaser.config import Experiment
from metaser.config.study import Study
from metaser.corpora import find
from metaser.corpora.base import EMOTIONS as CANONICAL
from metaser.corpora.base import Corpus, Utterance
from metaser.corpora.emofilm import LEGEND, read_legend
from metaser.corpora.files import files_below, sorted_out
from metaser.corpora.folder import Folder, decodable
from metaser.corpora.verify import verify
from metaser.experiment.data import check_names
from metaser.features import extract, recipe
from metaser.reporting.tables import published, read_paper
from metaser.runtime.errors import UserError
from metaser.tasks import EpisodeSampler, TaskShape
from metaser.training import methods
from support import FMAML, REPOSITORY
from support.commands import metaser
from support.hostile.corpora import ODD_NAMES, PARTS, ROWS, SHEET, STEMS, THINGS, corpus_named, grow, remove, workbook
from support.hostile.documents import CLIPS, CODE, CONFIG, DOCUMENTS, LIST, LISTS, PAPER, PAPERS
from support.hostile.family import Family, prepared
from support.hostile.inputs import CLAIMS, LIES, TOKENS, VALUES, altered, damaged, flac, mangled, noise, places, wav
from support.tasks import EMOTIONS, utterances


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepared(tmp_path, monkeypatch)


# --- audio ---


def encoded(folder: Path, kind: str, subtype: str, channels: int = 1) -> bytes:
    path = folder / "whole"
    soundfile.write(path, noise(channels=channels), 16000, format=kind, subtype=subtype)
    data = path.read_bytes()
    path.unlink()
    return data


def features_of(path: Path) -> None:
    """All that a run does with a clip: decoded, resampled, its features computed and cached."""
    table = pd.DataFrame({"path": [str(path)]})
    features = extract(table, recipe("fmaml"), workers=1)
    assert features.x.shape == (1, 40, 40)
    assert features.x.isfinite().all()
    assert 1 <= features.lengths[0] <= 40


def test_damaged_audio(ground: Path) -> None:
    kinds = (("WAV", "PCM_16", 1), ("WAV", "FLOAT", 2), ("WAV", "PCM_24", 1), ("WAV", "IMA_ADPCM", 1), ("WAVEX", "DOUBLE", 6),
             ("FLAC", "PCM_16", 1), ("FLAC", "PCM_24", 2), ("AIFF", "PCM_16", 1))  # fmt: skip
    path = ground / "own" / "clip.wav"
    with Family("damaged audio", ground) as family:
        for kind, subtype, channels in kinds:
            data = encoded(ground / "own", kind, subtype, channels)
            for seed in range(40):
                path.write_bytes(damaged(data, seed))
                family.attempt((kind, subtype, seed), partial(features_of, path), path)


def test_headers_that_lie(ground: Path) -> None:
    """About rates, channels, sizes: what is claimed takes no memory."""
    samples = (noise()[:, 0] * 32767).astype("<i2").tobytes()
    whole = encoded(ground / "own", "FLAC", "PCM_16")
    lies = [(lie, wav(samples, **lie)) for lie in LIES] + [(claim, flac(whole, **claim)) for claim in CLAIMS]
    path = ground / "own" / "clip.wav"
    tracemalloc.start()
    try:
        with Family("lying headers", ground) as family:
            for lie, data in lies:
                path.write_bytes(data)
                tracemalloc.reset_peak()
                family.attempt(lie, partial(features_of, path), path)
                peak = tracemalloc.get_traced_memory()[1]
                family.judge(lie, f"took {peak / 2**20:.0f} MiB" if peak > 2**28 else "")
    finally:
        tracemalloc.stop()


def test_samples_that_are_no_sound(ground: Path) -> None:
    """NaN, infinite, huge and tiny ones, anywhere, in one channel or all; and very few of them."""
    path = ground / "own" / "clip.wav"
    with Family("extreme samples", ground) as family:
        for value in (math.nan, math.inf, -math.inf, 3.4e38, 1e300, 1e20, 1e-45, 5e-324):
            for subtype in ("FLOAT", "DOUBLE"):
                for start, stop in ((0, 1), (-1, None), (0, None)):
                    samples = noise(channels=2)
                    samples[start:stop, 0] = value
                    with np.errstate(over="ignore"):
                        soundfile.write(path, samples, 16000, subtype=subtype)
                    family.attempt((value, subtype, start, stop), partial(features_of, path), path)
        for count in (0, 1, 2):
            soundfile.write(path, noise(count), 16000)
            family.attempt(count, partial(features_of, path), path)


def corpus_of_clips(folder: Path) -> Corpus:
    """A corpus of one's own with two clips of two emotions."""
    for name in ("anna/anger/1.wav", "anna/fear/2.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, noise(seed=int(name[-5])), 16000)
    return Folder("mine", folder, "el")


def read_and_verify(corpus: Corpus, folder: Path) -> None:
    """The folder listed, verified and read, as `metaser data verify` and a run do it."""
    lines = describe(verify(corpus, folder, workers=1)).split("\n")
    assert all(line.startswith(("mine: ", "  ")) for line in lines), lines
    table = corpus.table(folder)
    assert len(extract(table, recipe("fmaml"), workers=1).x) == len(table) >= 2


def test_things_that_are_no_clips(ground: Path) -> None:
    """Pipes, sockets, devices, links in circles; and every odd name, for a clip that is sound and for one that is not."""
    with Family("no clips", ground) as family:
        folder = ground / "own" / "mine"
        for label, make in THINGS.items():
            corpus = corpus_of_clips(folder)
            make(folder / "anna" / "anger" / "x.wav")
            family.attempt(label, partial(read_and_verify, corpus, folder), "x.wav", folder)
            remove(folder)
        for name in ODD_NAMES:
            for content in (b"", (REPOSITORY / "README.md").read_bytes()):
                corpus = corpus_of_clips(folder)
                odd = Path(os.fsdecode(os.path.join(os.fsencode(folder / "anna" / "fear"), name)))
                odd.write_bytes(content or (folder / "anna/anger/1.wav").read_bytes())
                family.attempt(name, partial(read_and_verify, corpus, folder), odd)
                remove(folder)


def test_audio_by_the_command(ground: Path) -> None:
    """Broken clips are findings to `data verify` (exit code 1), and one line to whatever would use them (2)."""
    root = ground / "own"
    clips = root / "emodb" / "wav"
    clips.mkdir(parents=True)
    for speaker in ("03", "08"):
        soundfile.write(clips / f"{speaker}a01Fa.wav", noise(seed=int(speaker)), 16000)
    victim = clips / "08a01Wa.wav"
    whole = (clips / "08a01Fa.wav").read_bytes()
    contents = (b"", whole[:30], whole[:-1], wav(whole[44:], rate=0), wav(whole[44:], channels=0), b"\0" * 5000)
    with Family("audio, by the command", ground) as family:
        for content in contents:
            victim.write_bytes(content)
            family.command(content[:20], lambda: metaser("data", "verify", data=root), victim.name, codes=(1,))
            family.command(content[:20], lambda: metaser("data", "probe", "emodb", data=root), victim)


# --- settings ---


def configured(path: Path, synthetic: bool = False, overrides: tuple[str, ...] = ()) -> Experiment:
    """The settings as a run reads them, and as `run.json` keeps them."""
    found = Study(path, methods).experiment(
        variant="5shot", protocol="strict", synthetic=synthetic, overrides=overrides
    )
    check_names(found)
    assert methods.experiment(json.loads(json.dumps(found.model_dump(mode="json")))) == found
    return found


def keys(path: Path) -> tuple[object, ...]:
    """What a refusal of settings may name: the file, the override, or the key."""
    return path, "--set", "model.name", "algorithms.", "feature recipe"


def test_documents_that_are_no_settings(ground: Path) -> None:
    """Aliases that stand for more than any memory holds, tags that would run code, keys given twice, and the like."""
    path = ground / "own" / "config.yaml"
    valid = {"BOM", "carriage returns"}
    with Family("documents", ground) as family:
        for label, content in DOCUMENTS.items():
            path.write_bytes(content)
            found = family.attempt(label, partial(configured, path), path, "model.name")
            family.judge(label, "" if found is None or label in valid else "is taken for good")


@pytest.mark.slow
def test_damaged_settings(ground: Path) -> None:
    path = ground / "own" / "config.yaml"
    tree = yaml.safe_load(CONFIG)
    with Family("damaged settings", ground) as family:
        for seed in range(150):
            for content in (damaged(CONFIG.encode(), seed, head=len(CONFIG)), mangled(CONFIG, seed)):
                path.write_bytes(content)
                family.attempt((seed, content), partial(configured, path, bool(seed % 2)), *keys(path))
        for seed in range(300):
            path.write_text(yaml.safe_dump(altered(tree, seed)))
            family.attempt(("altered", seed), partial(configured, path, bool(seed % 2)), *keys(path))


@pytest.mark.slow
def test_settings_on_the_command_line(ground: Path) -> None:
    """Every key with every value, and words that are no setting at all."""
    path = ground / "own" / "config.yaml"
    path.write_text(CONFIG)
    known = [".".join(map(str, place)) for place in places(yaml.safe_load(CONFIG))]
    rng = random.Random(0)
    words = [f"{key}={value}" for key in rng.sample(known, 40) for value in rng.sample(TOKENS, 3)]
    texts = [yaml.safe_dump(value, default_flow_style=True) for value in VALUES]
    words += [f"{rng.choice(known)}={text}" for text in texts for _ in range(3)]
    words += ["", "=", "=1", ".=1", "..=1", "a..b=1", " =1", "seeds", "a" * 9000, "a" * 9000 + "=1", "a\nb=1", "\0=1", "\udcff=1",
              "seeds=\udcff", "seeds=[*a]", "seeds=&a [*a]", f"seeds=!!python/object/apply:os.system ['{CODE}']",
              "." * 3000 + "=1", "training=1", "variant=../x", "protocol=a b", "experiment=a/b", "data.collections={}"]  # fmt: skip
    deepest = ".".join(["training"] * 3000) + "=1"
    with Family("overrides", ground) as family:
        for word in words:
            family.attempt(word[:80], partial(configured, path, overrides=(word,)), *keys(path))
        family.attempt("deep twice", partial(configured, path, overrides=(deepest, deepest)), *keys(path))
        command = ("run", FMAML, "--variant", "5shot", "--set", "a\nb=1")
        family.command("by the command", lambda: metaser(*command), "unknown key")


def test_settings_by_the_command(ground: Path) -> None:
    folder = ground / "own" / "experiment"
    shutil.copytree(FMAML, folder, ignore=shutil.ignore_patterns("__pycache__"))
    refused = ("nothing", "binary", "UTF-16", "tabs", "deep flow", "laughs", "laughs in a setting", "itself", "a huge number",
               "a key of a newline", "a key of a surrogate", "a variant elsewhere", "an empty number", "a key twice")  # fmt: skip
    with Family("settings, by the command", ground) as family:
        for label in refused:
            (folder / "config.yaml").write_bytes(DOCUMENTS[label])
            variant = "../../5shot" if label == "a variant elsewhere" else "5shot"
            command = partial(metaser, "run", folder, "--variant", variant, "--results", ground / "here" / "results")
            family.command(label, command, folder / "config.yaml")


SIZES = st.sampled_from([1, 2, 3, 5, 12, 13, 10**6, 2**31, 2**63, 10**30])


@settings(max_examples=200, derandomize=True)
@given(st.tuples(SIZES, SIZES, SIZES, SIZES, SIZES), st.sampled_from(["mixed", "disjoint"]))
def test_tasks_of_any_size_are_drawn_or_refused(sizes: tuple[int, int, int, int, int], speakers: str) -> None:
    """However many shots and queries are asked for: nothing is made of that size."""
    ways, shots, queries, least, fixed = sizes
    shape = TaskShape(ways, shots, queries, least, ("neutral", "silence"), fixed, "permuted", speakers)
    message = ""
    try:
        episode = EpisodeSampler(utterances(), ["aa", "bb"], EMOTIONS, shape, "train").draw(np.random.default_rng(0))
        assert len(episode.support_index) == ways * shots
    except UserError as error:
        message = str(error)
    assert "\n" not in message


# --- lists of clips, and the paper's table ---


def test_lists_of_clips(ground: Path) -> None:
    folder = ground / "own"
    (folder / "clips").mkdir()
    for number in range(CLIPS):
        (folder / f"clips/{number}.wav").touch()
    os.mkfifo(folder / "pipe.wav")
    path = folder / "list.csv"

    def read() -> int:
        table = Folder("mine", path, "el").table(path)
        assert all(os.path.isfile(clip) for clip in table["path"])
        assert table["path"].map(os.path.realpath).is_unique
        assert (table["emotion"].str.len() > 0).all()
        return len(table)

    with Family("lists of clips", ground) as family:
        for label, content in LISTS.items():
            if label == "a clip twice, absolute":
                content = f"{LIST}{folder}/clips/0.wav,anger,,,,\n"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            found = family.attempt(label, read, path, folder / "clips")
            family.judge(label, "" if found is None else f"{found} rows are taken for good")
        for seed in range(100):
            for content in (damaged(LIST.encode(), seed, head=len(LIST)), mangled(LIST, seed)):
                path.write_bytes(content)
                family.attempt((seed, content), read, path, folder / "clips")


def test_papers_tables(ground: Path) -> None:
    path = ground / "own" / "paper.csv"

    def read() -> str:
        paper = read_paper(path)
        assert np.isfinite(paper["value"]).all()
        return published(paper[paper["metric"] == "accuracy"], {"fomaml": "FOMAML"}, {})

    with Family("papers' tables", ground) as family:
        for label, content in PAPERS.items():
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            found = family.attempt(label, read, path)
            family.judge(label, "" if found is None else "is taken for good")
        for seed in range(50):
            for content in (damaged(PAPER.encode(), seed, head=len(PAPER)), mangled(PAPER, seed)):
                path.write_bytes(content)
                family.attempt((seed, content), read, path)


# --- corpora ---


def test_trees_of_wrong_names(ground: Path) -> None:
    """Every file is a clip, misnamed, or left out by the corpus's own rule; then the first misnamed one is refused."""
    folder = ground / "own" / "corpus"

    def read(corpus: Corpus) -> int:
        scan = corpus.scan(folder)
        listed = [*scan.table["path"], *map(str, scan.misnamed)]
        own = sorted_out(folder, decodable())[0] if isinstance(corpus, Folder) else files_below(folder)
        there = [str(folder / relative) for relative in own]
        left_out = {path for path in there if path not in listed}
        assert sorted(listed) == sorted({*there} - left_out)
        assert not left_out or corpus.name == "iemocap"
        assert scan.table["emotion"].isin([*CANONICAL, "silence"]).all() or corpus.name == "mine"
        describe(verify(corpus, folder, workers=1))
        table = corpus.table(folder)
        assert not scan.misnamed
        return len(table)

    with Family("trees", ground) as family:
        for name in STEMS:
            for seed in range(25):
                folder.mkdir()
                grow(folder, name, random.Random(f"{name} {seed}"))
                family.attempt((name, seed), partial(read, corpus_named(name, folder)), folder)
                remove(folder)


def test_roots_that_are_none(ground: Path) -> None:
    """Empty, misnamed, linked and broken corpora, all in one root: the listing tells each, and verifying goes on."""
    root = ground / "own"
    with Family("roots", ground) as family:
        for seed in range(10):
            rng = random.Random(seed)
            for name in sorted(set(STEMS) - {"mine", "synthetic", "silence"}):
                place = root / rng.choice((name, name.upper()))
                match rng.randrange(6):
                    case 0:
                        place.mkdir()
                    case 1:
                        place.touch()
                    case 2:
                        place.symlink_to(place.name)
                    case 3:
                        place.symlink_to("../own")
                    case _:
                        place.mkdir()
                        grow(place, name, rng)
            family.attempt(seed, lambda: listing(root))
            family.command(seed, lambda: metaser("data", "list", data=root), "emodb", codes=(0,))
            family.command(seed, lambda: metaser("data", "verify", data=root), root, codes=(1, 2))
            for entry in root.iterdir():
                remove(entry)
        for wrong in (root / "gone", "/dev/null", "a\nb", "", "~nobody-at-all", "x" * 5000, "/proc/self/mem"):
            for action in ("list", "verify"):
                command = partial(metaser, "data", action, "--root", wrong)
                family.command((action, str(wrong)[:20]), command, codes=(0, 2))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read(ground: Path) -> None:
    for name in sorted(set(STEMS) - {"synthetic", "silence"}):
        folder = ground / "own" / name
        grow(folder, name, random.Random(0))
        folder.chmod(0)
        with pytest.raises(UserError, match="cannot be read"):
            corpus_named(name, folder).scan(folder)
        folder.chmod(0o755)


texts = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=40)


@pytest.mark.parametrize("name", STEMS)
@settings(max_examples=100, derandomize=True)
@given(texts, st.sampled_from([".wav", ".flac", "", ".."]), st.data())
def test_any_text_is_read_or_not(name: str, text: str, extension: str, data: st.DataObject) -> None:
    """`parse` and `identity` never fail, whatever a file is called."""
    stem = data.draw(st.sampled_from(STEMS[name]))
    corpus = corpus_named(name, Path())
    for path in (text, stem[: len(stem) // 2] + text, f"{text}/{stem}", stem + text):
        relative = PurePosixPath(path + extension)
        if relative.name:
            assert isinstance(corpus.identity(relative), str)
            found = corpus.parse(relative)
            assert found is None or isinstance(found, Utterance)


def test_legends(ground: Path) -> None:
    """EmoFilm's workbook, damaged, or made to look larger than any memory."""
    path = ground / "own" / LEGEND
    workbook(path, {})
    whole = path.read_bytes()
    assert read_legend(path) == {"f_ans001aen": "jane doe"}

    def read() -> dict[str, str]:
        found = read_legend(path)
        assert all(stem and speaker for stem, speaker in found.items())
        return found

    with Family("legends", ground) as family:
        for label, parts in PARTS.items():
            workbook(path, parts)
            family.attempt(label, read, path)
        for label, rows in ROWS.items():
            workbook(path, {}, rows)
            family.attempt(label, read, path)
        for size in ("A1", "A1:A1", "A1:XFD1048576", "B2:C3", "ZZZ9:A1", "x", ""):
            workbook(path, {})
            with zipfile.ZipFile(path) as archive:
                sheet = archive.read(SHEET).decode()
            before, _, after = sheet.partition('<dimension ref="')
            workbook(path, {SHEET: (before + f'<dimension ref="{size}' + after[after.index('"') :]).encode()})
            found = family.attempt(("dimension", size), read, path)
            family.judge(("dimension", size), "" if found in (None, {"f_ans001aen": "jane doe"}) else f"gave {found}")
        for seed in range(80):
            path.write_bytes(damaged(whole, seed, head=len(whole) // 3))
            family.attempt(seed, read, path)


def test_label_files(ground: Path) -> None:
    """IEMOCAP's, damaged: a turn has its label, another one, or none, and an unknown label is refused."""
    folder = ground / "own" / "iemocap"
    turns = [f"Ses01F_impro04_{gender}{number:03}" for gender in "FM" for number in range(3)]
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "".join(
        f"[{n}.01 - {n}.98]\t{turn}\t{label}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n\n"
        for n, (turn, label) in enumerate(zip(turns, ("neu", "ang", "xxx", "exc", "fru", "oth"), strict=True))
    )
    path = folder / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro04.txt"
    path.parent.mkdir(parents=True)
    for turn in turns:
        (folder / f"{turn}.wav").touch()
    with Family("label files", ground) as family:
        for seed in range(40):
            for content in (damaged(text.encode(), seed, head=len(text)), mangled(text, seed)):
                path.write_bytes(content)
                table = family.attempt((seed, content[-80:]), lambda: find("iemocap").table(folder), path, folder)
                family.judge(seed, "" if table is None or table["emotion"].isin(CANONICAL).all() else "misread")
