"""`metaser data fetch` against a server on this machine, and archives that are damaged or evil against `unpack`."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import os
import random
import re
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from metaser.corpora import CORPORA, find
from metaser.corpora import fetch as fetching
from metaser.corpora import unpack as unpacking
from metaser.corpora.base import Download
from metaser.corpora.download import download
from metaser.corpora.unpack import unpack
from metaser.runtime.errors import UnwritableError, UserError
from support.commands import assert_refused, metaser
from support.corpora import SENTENCES, zipped


def wav(seed: int, samples: int = 60) -> bytes:
    handle = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    soundfile.write(handle, noise, 48000, format="WAV")
    return handle.getvalue()


def emovo_clips() -> dict[str, bytes]:
    """All 588 clips by their names, each a little noise of its own."""
    names = itertools.product(("f1", "f2", "f3", "m1", "m2", "m3"), find("emovo").emotions, SENTENCES)
    return {f"{who}/{how}-{who}-{what}.wav": wav(seed) for seed, (who, how, what) in enumerate(names)}


@pytest.fixture(scope="module")
def whole() -> bytes:
    """EMOVO as it is given away: in one folder, with more beside the clips."""
    clips = {f"EMOVO/{name}": content for name, content in emovo_clips().items()}
    return zipped({"EMOVO/": b"", "EMOVO/f1/": b"", **clips, "EMOVO/readme.txt": b"read me", "EMOVO/play.exe": b"MZ",
                   "__MACOSX/EMOVO/f1/._dis-f1-b1.wav": b"a twin"})  # fmt: skip


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones and links too."""
    return {str(path.relative_to(folder)): b"" if path.is_symlink() else path.read_bytes()
            for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}  # fmt: skip


# --- a server that does as it is told ---


@dataclass
class Server:
    """What it serves and how; what it was asked for.

    Attributes:
        files: Path → contents.
        cuts: For one request after the other, the most bytes to send before the connection breaks; then whole files.
        ranges: Whether it knows ranges; ``"wrong"``: it sends another one.
        status: A code to answer with, whatever is asked for.
        kind: Content-Type.
        length: Whether it says how long the answer is.
        asked: For each request, its path and Range.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool | str = True
    status: int = 0
    kind: str = "application/zip"
    length: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def serve(self, path: str, content: bytes) -> str:
        self.files[path] = content
        return self.address + path

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.asked.append((handler.path, asked))
        content = self.files.get(handler.path)
        if self.status or content is None:
            handler.send_error(self.status or 404)
            return
        start, code = 0, 200
        if asked and self.ranges:
            start, code = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            start -= self.ranges == "wrong"
        if start >= len(content):
            code = 416
        handler.send_response(code)
        handler.send_header("Content-Type", self.kind)
        if code == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if code == 416:
            handler.send_header("Content-Range", f"bytes */{len(content)}")
        if self.length:
            handler.send_header("Content-Length", str(len(content[start:])))
        handler.end_headers()
        handler.wfile.write(content[start:][: self.cuts.pop(0) if self.cuts else None])


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    plan = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            plan.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        plan.address = f"http://127.0.0.1:{running.server_port}"
        # In `finally`, not at the end of the block: a test that fails would wait for the server for ever.
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield plan
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def offered(server: Server, whole: bytes, monkeypatch) -> Server:
    """The server has EMOVO, and EMOVO's facts name the server."""
    server.files["/emovo.zip"] = whole
    offer(monkeypatch, "emovo", Download(server.address + "/emovo.zip", "emovo.zip"))
    return server


def offer(monkeypatch: pytest.MonkeyPatch, name: str, *downloads: Download) -> None:
    monkeypatch.setattr(find(name), "downloads", downloads)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "corpora"
    folder.mkdir()
    return folder


# --- what comes ---


def test_a_corpus_is_fetched_unpacked_and_read(offered: Server, root: Path, whole: bytes) -> None:
    result = metaser("data", "fetch", "EMOVO", data=root)
    assert result.returncode == 0, result.stderr
    assert f"emovo: fetching {offered.address}/emovo.zip" in result.stdout
    assert "CC BY-NC-SA" in result.stdout
    assert f"no checksum of emovo.zip is published; its SHA-256 is {hashlib.sha256(whole).hexdigest()}" in result.stdout
    assert f"588 clips in {root / 'emovo'}\n  clips per emotion: anger 84, disgust 84" in result.stdout
    assert [path.name for path in root.iterdir()] == ["emovo"]
    assert tree(root / "emovo") == {**emovo_clips(), "readme.txt": b"read me"}
    assert len(find("emovo").table(root / "emovo")) == 588
    assert metaser("data", "verify", "emovo", data=root).returncode == 0

    again = metaser("data", "fetch", "emovo", "--root", root)
    assert again.returncode == 0
    assert f"there already, and left as it is; to fetch it anew, move {root / 'emovo'} away" in again.stdout
    assert len(offered.asked) == 1


def test_a_folder_in_another_case_is_the_corpus_too_and_is_left_alone(offered: Server, root: Path) -> None:
    (root / "Emovo").mkdir()
    assert str(root / "Emovo") in metaser("data", "fetch", "emovo", data=root).stdout
    assert offered.asked == []
    assert tree(root) == {}


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_published_checksum_is_compared(offered: Server, root: Path, whole, algorithm, monkeypatch) -> None:
    right, wrong = (hashlib.new(algorithm, content).hexdigest() for content in (whole, whole[:-1]))
    item = replace(find("emovo").downloads[0], checksum=f"{algorithm}:{wrong}", size=len(whole))
    offer(monkeypatch, "emovo", item)
    refused = metaser("data", "fetch", "emovo", data=root)
    assert_refused(refused, "corpus emovo", item.url, f"{algorithm.upper()} expected {wrong}, found {right}", "removed",
                   "by hand")  # fmt: skip
    assert list(root.iterdir()) == []

    offer(monkeypatch, "emovo", replace(item, checksum=f"{algorithm}:{right}"))
    fetched = metaser("data", "fetch", "emovo", data=root)
    assert fetched.returncode == 0
    assert "no checksum" not in fetched.stdout
    assert len(tree(root)) == 589


def test_a_corpus_of_two_archives_lies_in_two_folders(server: Server, root: Path, monkeypatch) -> None:
    female = server.serve("/female.zip", zipped({"F01A01.wav": wav(1), "F01H02.wav": wav(2)}))
    male = server.serve("/male.zip", zipped({"male/M01S01.wav": wav(3)}))
    offer(monkeypatch, "shemo", Download(female, "f.zip", into="female"), Download(male, "m.zip", into="male"))
    result = metaser("data", "fetch", "shemo", data=root)
    assert sorted(tree(root)) == [f"shemo/{name}.wav" for name in ("female/F01A01", "female/F01H02", "male/M01S01")]
    assert result.returncode == 1, "it has fewer clips than its release"
    assert "anger 1/1059, fear 0/38, happiness 1/201" in result.stdout


def test_clips_that_cannot_be_read_by_name_are_told(server: Server, root: Path, monkeypatch) -> None:
    url = server.serve("/x.zip", zipped({**emovo_clips(), "f1/what.wav": wav(1)}))
    offer(monkeypatch, "emovo", Download(url, "x.zip"))
    result = metaser("data", "fetch", "emovo", data=root)
    assert result.returncode == 1
    assert "1 files are misnamed or there twice: `metaser data verify emovo`" in result.stdout


# --- transfers that break off ---


def kept(root: Path) -> Path:
    return root / ".emovo.fetch" / "emovo.zip.part"


def test_a_transfer_that_broke_off_is_taken_up_by_the_same_command(offered: Server, root: Path, whole: bytes) -> None:
    offered.cuts = [100_000, 0]
    refused = metaser("data", "fetch", "emovo", data=root)
    assert_refused(refused, offered.address, "the transfer broke off", str(kept(root)), "the same command goes on")
    part = kept(root).read_bytes()
    assert 0 < len(part) <= 100_000
    assert whole.startswith(part)
    assert [path.name for path in root.iterdir()] == [".emovo.fetch"]

    offered.asked.clear()
    result = metaser("data", "fetch", "emovo", data=root)
    assert result.returncode == 0, result.stderr
    assert offered.asked == [("/emovo.zip", f"bytes={len(part)}-")]
    assert hashlib.sha256(whole).hexdigest() in result.stdout
    assert [path.name for path in root.iterdir()] == ["emovo"]


def test_a_transfer_that_gets_further_is_taken_up_at_once(offered: Server, tmp_path: Path, whole: bytes) -> None:
    offered.cuts, seen = [70_000, 70_000], []
    path = download(find("emovo").downloads[0], tmp_path, lambda *step: seen.append(step))
    assert path.read_bytes() == whole
    assert [asked is not None for _, asked in offered.asked] == [False, True, True]
    assert seen[-1] == (len(whole), len(whole))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert list(tmp_path.iterdir()) == [path]


def test_a_transfer_of_which_nothing_came_leaves_nothing(offered: Server, root: Path) -> None:
    offered.cuts = [0]
    assert_refused(metaser("data", "fetch", "emovo", data=root), "the transfer broke off; try again")
    assert list(root.iterdir()) == []


def test_a_server_without_ranges_sends_all_of_it_again(offered: Server, root: Path, whole: bytes) -> None:
    offered.ranges = False
    kept(root).parent.mkdir()
    kept(root).write_bytes(whole[:1000])
    result = metaser("data", "fetch", "emovo", data=root)
    assert result.returncode == 0, result.stderr
    assert offered.asked == [("/emovo.zip", "bytes=1000-")]
    assert hashlib.sha256(whole).hexdigest() in result.stdout


def test_a_transfer_without_a_length_is_cut_off_at_the_known_size(
    offered: Server, root: Path, whole, monkeypatch
) -> None:
    offered.length, offered.cuts = False, [100_000, 0]
    offer(monkeypatch, "emovo", replace(find("emovo").downloads[0], size=len(whole)))
    assert_refused(metaser("data", "fetch", "emovo", data=root), f"100000 of {len(whole)} bytes came")
    assert kept(root).stat().st_size == 100_000
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0
    offer(monkeypatch, "emovo", replace(find("emovo").downloads[0], size=len(whole) - 1))
    (root / "emovo").rename(root / "before")
    assert_refused(metaser("data", "fetch", "emovo", data=root), f"more than {len(whole) - 1} bytes")
    assert [path.name for path in root.iterdir()] == ["before"]


def test_all_that_came_before_a_crash_is_used(offered: Server, root: Path, whole: bytes) -> None:
    kept(root).parent.mkdir()
    kept(root).write_bytes(whole)
    (kept(root).parent / "unpacked").mkdir()
    (kept(root).parent / "unpacked" / "half.wav").touch()
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0
    assert offered.asked == [("/emovo.zip", f"bytes={len(whole)}-")]
    assert len(tree(root)) == 589


@pytest.mark.parametrize(
    ("began", "part"),
    [(b"x" * 1000, "cannot be unpacked"), (b"x" * 10**6, "the server's file is another one now")],
    ids=["another beginning", "a longer file"],
)
def test_what_came_of_another_file_is_thrown_away(offered: Server, root: Path, began: bytes, part: str) -> None:
    kept(root).parent.mkdir()
    kept(root).write_bytes(began)
    assert_refused(metaser("data", "fetch", "emovo", data=root), part)
    assert list(root.iterdir()) == []
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0


def test_another_stretch_than_was_asked_for_is_not_appended(offered: Server, root: Path, whole: bytes) -> None:
    kept(root).parent.mkdir()
    kept(root).write_bytes(whole[:1000])
    offered.ranges = "wrong"
    assert_refused(metaser("data", "fetch", "emovo", data=root), "another stretch than was asked for")
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0


@pytest.mark.parametrize(
    ("change", "part"),
    [({"status": 404}, "refuses (404"), ({"status": 503}, "fails (503"), ({"kind": "text/html; charset=utf-8"}, "a web page")],
    ids=["gone", "broken", "a page"],
)  # fmt: skip
def test_a_server_that_sends_no_archive_is_told(offered: Server, root: Path, change: dict, part: str) -> None:
    for name, value in change.items():
        setattr(offered, name, value)
    assert_refused(metaser("data", "fetch", "emovo", data=root), offered.address, part, "by hand", "Google Drive")
    assert list(root.iterdir()) == []


def test_another_size_is_refused_before_it_is_fetched(offered: Server, root: Path, whole: bytes, monkeypatch) -> None:
    offer(monkeypatch, "emovo", replace(find("emovo").downloads[0], size=len(whole) + 1))
    assert_refused(metaser("data", "fetch", "emovo", data=root), f"has {len(whole)} bytes, not {len(whole) + 1}")
    assert list(root.iterdir()) == []


def test_no_server_at_all_is_told(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as closed:  # bound, so that nobody else is, and not listening
        closed.bind(("127.0.0.1", 0))
        offer(monkeypatch, "emovo", Download(f"http://127.0.0.1:{closed.getsockname()[1]}/emovo.zip", "emovo.zip"))
        assert_refused(metaser("data", "fetch", "emovo", data=root), "no connection; try again")
    assert list(root.iterdir()) == []


# --- whom it does not serve ---


@pytest.mark.parametrize(
    ("name", "where"),
    [("emofilm", "zenodo.org/records/7665999"), ("savee", "University of Surrey"), ("iemocap", "sail.usc.edu")],
)
def test_a_restricted_corpus_says_where_to_apply(name: str, where: str) -> None:
    result = metaser("data", "fetch", name)
    assert result.returncode == 1, "it is not there"
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{name}: is not free to fetch (")
    assert where in line
    assert f"in a folder '{name}'" in line


def test_one_corpus_that_fails_does_not_stop_the_others(offered: Server, root: Path, monkeypatch) -> None:
    offer(monkeypatch, "emodb", Download(offered.address + "/gone.zip", "gone.zip"))
    result = metaser("data", "fetch", "emodb", "savee", "synthetic", "emovo", data=root)
    assert_refused(result, "not fetched: emodb")
    assert "gone.zip: the server refuses (404" in result.stderr.splitlines()[0]
    assert "synthetic: metaser makes it itself" in result.stdout
    assert [path.name for path in root.iterdir()] == ["emovo"]


def test_what_cannot_be_begun_is_told(offered: Server, root: Path) -> None:
    assert_refused(metaser("data", "fetch", "emovo"), "no data root", "METASER_DATA")
    assert_refused(metaser("data", "fetch", "emovoo", data=root), "'emovo'")
    assert metaser("data", "fetch", data=root).returncode == 2
    assert metaser("data", "fetch", "synthetic").returncode == 0
    (root / "emovo").write_text("a file")
    assert_refused(metaser("data", "fetch", "emovo", data=root), str(root / "emovo"), "move it away")
    assert tree(root) == {"emovo": b"a file"}
    (root / ".emovo.fetch").write_text("a file")
    assert_refused(metaser("data", "fetch", "emovo", data=root), "cannot write", ".emovo.fetch")
    assert offered.asked == []


def test_two_processes_do_not_fetch_into_one_folder(offered: Server, root: Path) -> None:
    kept(root).parent.mkdir()
    handle = os.open(kept(root).parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert_refused(metaser("data", "fetch", "emovo", data=root), "another process")
    os.close(handle)
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0


def test_what_has_come_is_kept_when_the_disk_is_full_or_the_user_stops(
    offered: Server, root: Path, monkeypatch
) -> None:
    def full(archive: Path, folder: Path, **_: object) -> None:
        folder.mkdir()
        (folder / "half.wav").touch()
        raise UnwritableError(f"cannot write {folder / 'half.wav'} (No space left on device)")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for failing, code, part in ((full, 2, "No space left"), (stop, 130, "stopped; what has come is kept")):
        with monkeypatch.context() as patch:
            patch.setattr(fetching, "unpack", failing)
            result = metaser("data", "fetch", "emovo", data=root)
        assert result.returncode == code
        assert part in result.stderr
        assert list(tree(root)) == [".emovo.fetch/emovo.zip"]
    assert metaser("data", "fetch", "emovo", data=root).returncode == 0
    assert len(offered.asked) == 1


def test_the_facts_of_what_may_be_fetched() -> None:
    fetched = {name for name, corpus in CORPORA.items() if corpus.downloads}
    assert fetched == {"ravdess", "tess", "emodb", "emovo", "shemo", "urdu"}
    listed = metaser("data", "list").stdout
    for name, corpus in CORPORA.items():
        assert (f"`metaser data fetch {name}`" in listed) == (name in fetched)
        assert len({item.file for item in corpus.downloads}) == len(corpus.downloads)
        for item in corpus.downloads:
            assert re.fullmatch(r"https?://\S+", item.url)
            assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", item.checksum)
            assert re.fullmatch(r"[\w-]+\.zip", item.file)
    assert "`metaser data fetch tess`, or by hand" in metaser("data", "probe", "tess").stderr


# --- archives that are evil ---

CLIP, GOOD = "wav/03a01Fa.wav", wav(0)


def member(name: str, mode: int = 0, **facts: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.orig_filename = info.filename = name
    info.external_attr = mode << 16
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def encrypted() -> bytes:
    """The flag in both headers, as nothing in the library writes it."""
    content = bytearray(zipped({CLIP: GOOD}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


EVIL: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute": (lambda: zipped({CLIP: GOOD, member("/tmp/metaser-evil.wav"): GOOD}), "'/tmp/metaser-evil.wav' leads out"),
    "up": (lambda: zipped({CLIP: GOOD, "../evil.wav": GOOD}), "'../evil.wav' leads out"),
    "up later": (lambda: zipped({CLIP: GOOD, "wav/../../evil.wav": GOOD}), "leads out"),
    "up, not to be written": (lambda: zipped({CLIP: GOOD, "../evil.sh": GOOD}), "leads out"),
    "a folder up": (lambda: zipped({CLIP: GOOD, "../evil/": b""}), "leads out"),
    "nothing": (lambda: zipped({CLIP: GOOD, member("./"): b""}), "leads out"),
    "backslashes": (lambda: zipped({CLIP: GOOD, member("..\\evil.wav"): GOOD}), "no corpus uses"),
    "drive": (lambda: zipped({CLIP: GOOD, "C:evil.wav": GOOD}), "no corpus uses"),
    "NUL": (lambda: zipped({CLIP: GOOD, member("wav/a.wav\0.txt"): GOOD}), "no corpus uses"),
    "newline": (lambda: zipped({CLIP: GOOD, "wav/a\nb.wav": GOOD}), "no corpus uses"),
    "long": (lambda: zipped({CLIP: GOOD, "a" * 300 + ".wav": GOOD}), "no corpus uses"),
    "link": (lambda: zipped({CLIP: GOOD, member("wav/x.wav", stat.S_IFLNK | 0o777): b"/etc/passwd"}), "a link"),
    "folder link": (lambda: zipped({member("wav", stat.S_IFLNK | 0o777): b"..", CLIP: GOOD}), "a link"),
    "pipe": (lambda: zipped({CLIP: GOOD, member("wav/x.wav", stat.S_IFIFO | 0o666): b""}), "a device"),
    "device": (lambda: zipped({CLIP: GOOD, member("wav/x.wav", stat.S_IFBLK | 0o666): b""}), "a device"),
    "encrypted": (encrypted, f"member '{CLIP}' is encrypted"),
    "bzip2": (lambda: zipped({CLIP: GOOD}, zipfile.ZIP_BZIP2), "method 12"),
    "lzma": (lambda: zipped({CLIP: GOOD}, zipfile.ZIP_LZMA), "method 14"),
    "twice": (lambda: zipped({CLIP: GOOD, member(CLIP): wav(1)}), "there twice"),
    "twice in another case": (lambda: zipped({CLIP: GOOD, CLIP.upper(): wav(1)}), "there twice"),
    "twice by a dot": (lambda: zipped({CLIP: GOOD, "wav/./03a01Fa.wav": wav(1)}), "there twice"),
    "a file as folder": (lambda: zipped({"wav/a.wav": GOOD, "wav/a.wav/b.wav": GOOD}), "there twice"),
    "many": (lambda: zipped({f"wav/{n}.wav": b"" for n in range(21)}), "21 members, more than 20"),
    "a bomb": (lambda: zipped({CLIP: bytes(4 << 20)}), "claims to hold 4194304 bytes"),
    "many small bombs": (lambda: zipped({f"wav/{n}.wav": bytes(1 << 18) for n in range(9)}), "claims to hold"),
    "a folder with contents": (lambda: zipped({CLIP: GOOD, "wav/x/": b"evil"}), "contents of its own"),
    "a tar": (lambda: b"wav/03a01Fa.wav".ljust(257, b"\0") + b"ustar".ljust(767, b"\0"), "not a zip file"),
    "a page": (lambda: b"<!doctype html><title>Sign in</title>" * 9, "not a zip file"),
    "empty": (lambda: b"", "not a zip file"),
}  # fmt: skip


def refused(folder: Path, content: bytes) -> str:
    """Why `unpack` refuses an archive; that nothing was written but below the folder that it was to unpack into."""
    archive, target = folder / "archive.zip", folder / "target"
    archive.write_bytes(content)
    with pytest.raises(UserError) as caught:
        unpack(archive, target)
    message = str(caught.value)
    assert message.startswith(f"{archive}: cannot be unpacked (")
    assert "\n" not in message
    assert {path.name for path in folder.iterdir()} <= {"archive.zip", "target"}
    return message


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", EVIL)
def test_an_evil_archive_is_refused_before_anything_is_written(tmp_path: Path, kind: str, monkeypatch) -> None:
    make, part = EVIL[kind]
    monkeypatch.setattr(unpacking, "MEMBERS", 20)
    assert part in refused(tmp_path, make())
    assert not (tmp_path / "target").exists()
    assert not Path("/tmp/metaser-evil.wav").exists()


def test_an_evil_archive_from_a_server_leaves_nothing_behind(server: Server, root: Path, monkeypatch) -> None:
    url = server.serve("/evil.zip", zipped({**emovo_clips(), "../../evil.wav": GOOD}))
    offer(monkeypatch, "emovo", Download(url, "evil.zip"))
    assert_refused(metaser("data", "fetch", "emovo", data=root), "corpus emovo", "evil.zip", "leads out", "removed")
    assert [path.name for path in root.parent.rglob("*")] == ["corpora"]


def test_another_corpus_in_the_archive_is_refused(server: Server, root: Path, monkeypatch) -> None:
    for content in ({CLIP: GOOD}, {"readme.txt": b"moved"}, {"play.exe": b"MZ"}):
        offer(monkeypatch, "emovo", Download(server.serve("/other.zip", zipped(content)), "other.zip"))
        assert_refused(metaser("data", "fetch", "emovo", data=root), "no clip in", "named as EMOVO names its clips")
        assert list(root.iterdir()) == []


def forged(name: str, content: bytes, claimed: int) -> bytes:
    """An archive of one deflated member whose headers claim another size."""
    data = bytearray(zipped({name: content}))
    struct.pack_into("<I", data, data.index(b"PK\3\4") + 22, claimed)
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, claimed)
    return bytes(data)


def test_bytes_are_counted_whatever_the_headers_claim(tmp_path: Path, monkeypatch) -> None:
    assert "claims to hold 4294967294 bytes" in refused(tmp_path, forged(CLIP, GOOD, 0xFFFFFFFE))
    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "BYTES", len(GOOD) - 1)
        assert "claims to hold" in refused(tmp_path, zipped({CLIP: GOOD}))
    assert f"{len(GOOD)} of {len(GOOD) + 1} bytes" in refused(tmp_path, forged(CLIP, GOOD, len(GOOD) + 1))
    (tmp_path / "target" / CLIP).unlink()
    assert "CRC" in refused(tmp_path, forged(CLIP, bytes(4 << 20), len(GOOD)))
    assert sum(map(len, tree(tmp_path / "target").values())) <= len(GOOD), "a bomb that denies it goes off in vain"
    with pytest.raises(zipfile.BadZipFile, match="more than a corpus has"):
        unpacking.poured(itertools.repeat(b"endless"), member(CLIP), tmp_path, None, 1000)


def test_a_directory_that_would_fill_the_memory_is_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(unpacking, "DIRECTORY", 1000)
    content = zipped({f"wav/{n}.wav": b"" for n in range(30)})
    assert re.search(r"its directory claims \d{4} bytes", refused(tmp_path, content))


def test_the_folder_that_all_share_is_left_out_but_not_the_clips_own(tmp_path: Path) -> None:
    cases = {
        ("EMOVO/f1/a.wav", "EMOVO/f2/b.wav", "EMOVO/read.txt"): ("f1/a.wav", "f2/b.wav", "read.txt"),
        ("x/y/wav/a.wav", "x/y/wav/b.wav"): ("wav/a.wav", "wav/b.wav"),
        ("wav/a.wav", "read.txt"): ("wav/a.wav", "read.txt"),
        ("a.wav",): ("a.wav",),
        ("./A/a.FLAC", "B/b.wav", "C/"): ("A/a.FLAC", "B/b.wav"),
    }
    for number, (names, wanted) in enumerate(cases.items()):
        (archive := tmp_path / f"{number}.zip").write_bytes(zipped(dict.fromkeys(names, b"")))
        steps = []
        written = unpack(archive, tmp_path / str(number), progress=lambda *step, steps=steps: steps.append(step))
        assert written == [tmp_path / str(number) / name for name in wanted]
        assert sorted(tree(tmp_path / str(number))) == sorted(wanted)
        assert steps == [(done, len(names)) for done in range(1, len(names) + 1)]


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_archives(tmp_path: Path) -> None:
    (archive := tmp_path / "archive.zip").write_bytes(zipped({CLIP: GOOD}))
    with pytest.raises(UnwritableError, match=str(archive)):
        unpack(archive, archive / "below a file")
    (tmp_path / "target" / "wav").mkdir(parents=True)
    (tmp_path / "target" / CLIP).write_bytes(b"mine")
    with pytest.raises(UnwritableError, match="03a01Fa"):
        unpack(archive, tmp_path / "target")
    assert (tmp_path / "target" / CLIP).read_bytes() == b"mine"


# --- archives that are damaged ---

SOUND = zipped({"wav/": b"", CLIP: GOOD, "wav/08b02Wc.wav": wav(1), "labels.txt": b"anger\n" * 50, "play.exe": b"MZ"})
CONTENTS = {CLIP: GOOD, "wav/08b02Wc.wav": wav(1), "labels.txt": b"anger\n" * 50}


def renamed(old: bytes, new: bytes) -> bytes:
    """A member's name changed in both headers, to one as long."""
    assert len(old) == len(new)
    assert SOUND.count(old) == 2
    return SOUND.replace(old, new)


def mutations() -> Iterator[tuple[str, bytes, bool]]:
    """What was done to `SOUND`, the outcome, and whether that can only be refused."""
    rng = random.Random(0)
    for end in [0, 1, len(SOUND) - 1, *rng.sample(range(2, len(SOUND) - 1), 27)]:
        yield f"cut off at {end}", SOUND[:end], True
    contents = SOUND.index(GOOD[:4]) if GOOD[:4] in SOUND else SOUND.index(CLIP.encode()) + len(CLIP) + 20
    for bit in [8 * contents, *rng.sample(range(8 * len(SOUND)), 79)]:
        damaged = bytearray(SOUND)
        damaged[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(damaged), bit == 8 * contents
    for new in (b"../03a01Fa.wav ", b"/av/03a01Fa.wav", b"wav/../a1Fa.wav", b"wav\\03a01Fa.wav", b"wav/08b02Wc.wav",
                b"C:v/03a01Fa.wav", b"wav/03a01F\0.wav"):  # fmt: skip
        yield f"renamed to {new!r}", renamed(CLIP.encode(), new), True
    directory = SOUND.index(b"PK\1\2")
    half = SOUND[:directory] + renamed(CLIP.encode(), b"wav/09a01Fa.wav")[directory:]
    yield "renamed in the directory only", half, True
    # Each field of two bytes of a local header, a directory's entry and the end, at its most.
    for signature, length in ((b"PK\3\4", 30), (b"PK\1\2", 46), (b"PK\5\6", 22)):
        for offset in range(4, length, 2):
            damaged = bytearray(SOUND)
            place = SOUND.rindex(signature) + offset
            damaged[place : place + 2] = b"\xff\xff"
            yield f"{signature!r} + {offset} at its most", bytes(damaged), False


def complaint(archive: Path, target: Path) -> str:
    """What `unpack` has against an archive; empty if nothing."""
    try:
        unpack(archive, target)
    except UserError as error:
        return str(error)
    return ""


def test_a_damaged_archive_is_refused_by_name_or_nothing_of_it_is_lost(tmp_path: Path) -> None:
    """A hundred and more: cut off, a bit flipped, renamed, headers that claim too much; none writes elsewhere."""
    outcomes = []
    for number, (what, content, hopeless) in enumerate(mutations()):
        folder = tmp_path / str(number)
        folder.mkdir()
        archive = folder / "archive.zip"
        archive.write_bytes(content)
        if error := complaint(archive, folder / "target"):
            assert error.startswith(f"{archive}: cannot be unpacked ("), what
            assert "\n" not in error, what
            outcomes.append("refused")
        else:
            assert not hopeless, what
            assert tree(folder / "target") == CONTENTS, what
            outcomes.append("whole")
        assert {path.name for path in folder.iterdir()} <= {"archive.zip", "target"}, what
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(len(outcomes))}
    assert outcomes.count("refused") > 100
    assert outcomes.count("whole") > 10, "such as a time of day that is another one"
