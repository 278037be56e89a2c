"""Bad inputs, each decided by a seed: damaged bytes, text, trees of settings, audio files whose headers lie."""

from __future__ import annotations

import copy
import datetime
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

# --- bytes and text ---


def damaged(data: bytes, seed: int, head: int = 64) -> bytes:
    """The bytes with one damage, of ten kinds in turn; every other time it begins within the first ``head`` bytes."""
    rng = random.Random(seed)
    at = rng.randrange(min(head, len(data)) if seed // 10 % 2 else len(data))
    size = rng.choice((1, 2, 4, 16, 300))
    before, run, after = data[:at], data[at : at + size], data[at + size :]
    match seed % 10:
        case 0:
            return before
        case 1:
            return before + bytes([run[0] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 2:
            return before + bytes(len(run)) + after
        case 3:
            return before + b"\xff" * len(run) + after
        case 4:
            return before + rng.randbytes(size) + data[at:]
        case 5:
            return before + after
        case 6:
            return before + run * rng.choice((2, 3, 100)) + after
        case 7:
            return before + rng.randbytes(len(run)) + after
        case 8:
            return before + after[:size] + run + after[size:]
        case _:
            lie = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
            return before + struct.pack(rng.choice("<>") + "I", lie) + data[at + 4 :]


#: Pieces of text that mean something somewhere.
TOKENS = (
    "\t", "\0", "\ufeff", "\x85", "\u2028", "'", '"', "[", "]", "{", "}", "*a", "&a ", "!!python/name:os.system ", "!x ",
    "%YAML 3.0\n", "@", "`", ": ", "- ", "|", ">", "#", ",", ";", "\r", "\n", "\x1b[31m", "---\n", "...\n", "? ", "<<: ",
    "=", "~", "\\", "..", "/", "nan", "inf", "NA", "-1", "1e999", "0x" + "f" * 5000, "9" * 5000, "é", "\U0001f600", "",
)  # fmt: skip


def mangled(text: str, seed: int) -> bytes:
    """The text with one mistake as an editor or a merge makes it, of ten kinds in turn, in UTF-8 but for one kind."""
    rng = random.Random(seed)
    lines = text.splitlines(keepends=True)
    at, other, place = rng.randrange(len(lines)), rng.randrange(len(lines)), rng.randrange(len(text))
    match seed % 10:
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = " " * rng.randrange(1, 9) + lines[at]
        case 4:
            lines[at] = "\t" + lines[at].lstrip()
        case 5:
            lines[at] = rng.choice(TOKENS) + "\n"
        case 6:
            lines[at] = lines[at].rstrip("\n")
        case 7:
            encoding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le", "cp500"))
            return text.encode(encoding)
        case _:
            return (text[:place] + rng.choice(TOKENS) + text[place + rng.choice((0, 0, 1, 5)) :]).encode()
    return "".join(lines).encode()


# --- trees, as YAML and JSON give them ---


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    tree: Any = 1
    for _ in range(levels):
        tree = [tree]
    return tree


#: Values that are of the wrong type, out of all bounds, or both, nearly everywhere.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 10**400, 0.5, 1e300, 5e-324, float("nan"), float("inf"), -0.0, "", " ", "0", "1e3",
    "x" * 50_000, "../../x", "/etc/passwd", "~nobody-at-all/x", "a\nb", "a\0b", "\x1b[2J", "\u2028", "é\u0301", [], [[]],
    [None], [1, 1], ["x", "x"], list(range(5000)), deep(60), {}, {"x": {}}, {"": ""}, {1: 2}, {None: None}, {"a\nb": 1},
    {"name": "x"}, b"\xff\x00", datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), {"a", "b"},
)  # fmt: skip

#: Those of them that JSON can hold.
JSON_VALUES = tuple(value for value in VALUES if not isinstance(value, bytes | set | datetime.date))


def places(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node of a tree of dicts and lists but its top."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*here, key)
        yield from places(value, (*here, key))


def altered(tree: Any, seed: int, values: tuple[Any, ...] = VALUES) -> Any:
    """A copy with one node replaced by a value of ``values`` (all of them in turn), removed, renamed or put elsewhere."""
    rng = random.Random(seed)
    tree = copy.deepcopy(tree)
    *way, last = rng.choice(list(places(tree)))
    parent = tree
    for key in way:
        parent = parent[key]
    if seed % 4:
        parent[last] = values[(seed - seed // 4) % len(values)]
    elif isinstance(parent, dict) and seed % 8:
        parent[rng.choice((f"{last}s", 3, None, "", str(last).upper()))] = parent.pop(last)
    elif seed % 16:
        tree[rng.choice(list(tree))] = parent[last]
    else:
        del parent[last]
    return tree


# --- audio ---


def noise(samples: int = 4000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """``(samples, channels)`` between -0.5 and 0.5."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))


def wav(
    data: bytes, tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, align: int | None = None,
    fmt: int = 16, size: int | None = None, riff: int | None = None, kind: bytes = b"RIFF", before: bytes = b"",
) -> bytes:  # fmt: skip
    """A WAV file whose header says what it is told to.

    Args:
        data: The samples.
        tag: The codec.
        channels: How many.
        rate: Sample rate in Hz.
        bits: Per sample.
        align: Bytes per sample of all channels; what follows from the former when None.
        fmt: The size that the format chunk claims.
        size: The size that the data chunk claims; the true one when None.
        riff: The size that the file claims; the true one when None.
        kind: The first four bytes.
        before: Chunks before the format chunk.
    """
    align = channels * bits // 8 if align is None else align
    chunk = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", fmt) + chunk + b"data"
    body += struct.pack("<I", len(data) if size is None else size) + data
    return kind + struct.pack("<I", len(body) if riff is None else riff) + body


EXTREMES = (0, 1, 2, 3, 255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

#: What `wav` is told: every field at its extremes, some of them together.
LIES: tuple[dict[str, Any], ...] = (
    *({"rate": rate} for rate in (*EXTREMES, 999, 1000, 24391, 44101, 768_000, 768_001)),
    *({"channels": channels} for channels in (0, 2, 3, 7, 255, 1024, 1025, 65535)),
    *({"bits": bits} for bits in (0, 1, 7, 8, 12, 13, 24, 32, 33, 64, 255, 65535)),
    *({"align": align} for align in (0, 1, 3, 4, 65535)),
    *({"size": size} for size in EXTREMES),
    *({"size": size, "riff": size} for size in EXTREMES),
    *({"riff": size} for size in EXTREMES),
    *({"fmt": size} for size in (*EXTREMES, 14, 15, 17, 18, 40)),
    *({"tag": tag, "bits": bits} for tag in (0, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0x161, 0xFFFE, 0xFFFF) for bits in (4, 8, 32, 64)),
    *({"kind": kind} for kind in (b"RIFX", b"RF64", b"FORM", b"riff", b"fLaC", b"OggS", b"ID3\x04", b"caff", b".snd")),
    *({"before": name + struct.pack("<I", size)} for name in (b"LIST", b"fmt ", b"data", b"fact", b"PEAK") for size in EXTREMES),
    {"channels": 65535, "bits": 65535, "rate": 0xFFFFFFFF, "size": 0xFFFFFFFF, "riff": 0xFFFFFFFF},
    {"channels": 1024, "size": 0x7FFFFFFF, "riff": 0x7FFFFFFF},
)  # fmt: skip


def flac(data: bytes, **fields: int) -> bytes:
    """A FLAC file with other fields in its first metadata block: rate, channels (less one), bits (less one), total."""
    packed = int.from_bytes(data[18:26], "big")
    for name, low, width in (("rate", 44, 20), ("channels", 41, 3), ("bits", 36, 5), ("total", 0, 36)):
        if name in fields:
            packed = packed & ~(((1 << width) - 1) << low) | fields[name] << low
    return data[:18] + packed.to_bytes(8, "big") + data[26:]


#: What `flac` is told; a total of 0 means that it is not known.
CLAIMS: tuple[dict[str, int], ...] = (
    *({"total": total} for total in (0, 1, 1000, 3999, 4001, 2**20, 2**28, 2**31, 2**33, 2**35, 2**36 - 1)),
    *({"rate": rate} for rate in (0, 1, 999, 1000, 24391, 655_350, 2**20 - 1)),
    *({"channels": channels} for channels in range(8)),
    *({"bits": bits} for bits in (0, 3, 7, 11, 19, 23, 30, 31)),
    *({"total": 2**36 - 1, "channels": 7, "bits": bits} for bits in (15, 23, 31)),
)  # fmt: skip
