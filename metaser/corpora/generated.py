"""Corpora that metaser makes itself: written once to the cache, whole or not at all, the same with any workers."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import os
import shutil
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType

import numpy as np

from metaser.corpora.base import Corpus, Progress
from metaser.runtime.errors import UserError
from metaser.runtime.files import cache_folder

#: The sample rate of everything made here, in Hz.
RATE = 16000

#: The file whose presence, and agreement with the folder, says that a generated corpus is whole.
MARKER = "complete.json"

#: Makes one clip: ``(samples,)`` float32 between -1 and 1, and its rate in Hz.
Render = Callable[[], tuple[np.ndarray, int]]


class GeneratedCorpus(Corpus):
    """A corpus that metaser makes: always there, in the cache, whatever the data root.

    Attributes:
        sources: Modules, beside the corpus's own and this one, whose text decides what is made.
    """

    generated = True
    access = "metaser makes it itself; nothing to fetch"
    sources: tuple[ModuleType, ...] = ()

    @abstractmethod
    def plan(self) -> dict[str, Render]:
        """Every clip's file name, relative to the corpus's folder, and what renders it."""

    def locate(self, root: Path | None, progress: Progress | None = None) -> Path:
        """The corpus's folder in the cache, made first if need be; ``root`` does not matter.

        Raises:
            UserError: if the cache cannot be written.
        """
        digest = source_digest(*(sys.modules[name] for name in (type(self).__module__, __name__)), *self.sources)
        return ensure_corpus(f"{self.name}-{digest}", self.plan(), progress)


def source_digest(*modules: ModuleType) -> str:
    """A short digest of modules' source text: a change of table or code gets a new cache folder, never a stale one."""
    text = "\0".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def ensure_corpus(
    name: str, clips: Mapping[str, Render], progress: Progress | None = None, workers: int | None = None
) -> Path:
    """The cache folder of a generated corpus, made first where it is absent, incomplete or damaged.

    The clips are written to a temporary folder that is renamed when whole, under a lock that the system frees when its
    holder dies: of two processes that ask at once, one makes the corpus and the other waits for it.

    Args:
        name: The folder's name, such as ``synthetic-v1-0123456789ab``; the digest in it stands for the contents.
        clips: File name relative to the folder (``/`` between folders) → what renders it.
        progress: Called after each clip written; not called when the corpus is there already.
        workers: Threads; as many as there are cores when None. They do not change what is written.

    Returns:
        The folder; its files are named as the keys of ``clips``, 16-bit mono FLAC.

    Raises:
        UserError: if the cache cannot be written, or the disk is full.
    """
    import soundfile  # here and below, not above: `metaser data list` makes no clips

    root = cache_folder("corpora")
    folder = root / name
    if is_whole(folder, clips):
        return folder
    try:
        with open(root / f".{name}.lock", "w") as lock:  # it stays: removing it would let two holders in
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_whole(folder, clips):
                for left in root.glob(
                    f".{name}.*.tmp"
                ):  # by killed runs, for nobody else writes while we hold the lock
                    shutil.rmtree(left, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".tmp", dir=root) as temporary:
                    write_clips(Path(temporary), clips, progress, workers)
                    os.chmod(temporary, 0o755)  # its 0700 would shut out others who share the cache
                    shutil.rmtree(folder, ignore_errors=True)
                    os.rename(temporary, folder)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write the corpus {folder} ({reason}); free some space or set METASER_CACHE") from None
    return folder


def write_clips(folder: Path, clips: Mapping[str, Render], progress: Progress | None, workers: int | None) -> None:
    """Renders the clips into ``folder`` and writes the marker last."""
    import soundfile

    def write(relative: str) -> None:
        # Rounded here, since libsndfile's own conversion from floats has changed between its versions.
        samples, rate = clips[relative]()
        steps = np.round(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
        soundfile.write(folder / relative, steps, rate, format="FLAC", subtype="PCM_16")

    for parent in sorted({(folder / relative).parent for relative in clips}):
        parent.mkdir(parents=True, exist_ok=True)
    # Threads, not processes: the FFTs and the encoder leave the interpreter's lock, and nothing is forked or pickled.
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            for done, future in enumerate(as_completed([pool.submit(write, relative) for relative in clips]), 1):
                future.result()
                if progress is not None:
                    progress(done, len(clips))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    sizes = {relative: (folder / relative).stat().st_size for relative in sorted(clips)}
    (folder / MARKER).write_text(json.dumps(sizes), encoding="utf-8")


def is_whole(folder: Path, clips: Mapping[str, Render]) -> bool:
    """Whether the marker is there, names exactly these clips, and every clip still has the size it was written with."""
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return sizes.keys() == clips.keys() and all((folder / name).stat().st_size == sizes[name] for name in sizes)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def coloured_noise(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Gaussian noise of unit RMS whose power falls by ``slope`` dB per octave above 20 Hz (0 white, 3 pink, 6 brown).

    Returns:
        ``(samples,)`` float64.
    """
    import scipy.fft

    length = scipy.fft.next_fast_len(samples, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(length))
    frequency = scipy.fft.rfftfreq(length, 1 / RATE)
    noise = scipy.fft.irfft(spectrum * np.maximum(frequency, 20.0) ** (-slope / 6.02), length)[:samples]
    return noise / np.sqrt(np.mean(noise**2))
