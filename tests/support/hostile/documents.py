"""Whole files of text that are wrong: configurations, lists of clips, a paper's table."""

from __future__ import annotations

import random

from support import FMAML

CONFIG = (FMAML / "config.yaml").read_text(encoding="utf-8")

#: A file that must never be made, by whatever a configuration says.
CODE = "touch ../own/code-was-run"

#: Whole configurations, and what stands before or after the real one.
DOCUMENTS: dict[str, bytes] = {
    "nothing": b"",
    "null": b"~",
    "a list": b"- a\n- b\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "binary": random.Random(0).randbytes(3000),
    "zeros": bytes(3000),
    "not UTF-8": CONFIG.replace("ours", "\xfcnser").encode("latin-1"),
    "BOM": b"\xef\xbb\xbf" + CONFIG.encode(),
    "UTF-16": CONFIG.encode("utf-16"),
    "carriage returns": CONFIG.replace("\n", "\r").encode(),
    "tabs": CONFIG.replace("  ", "\t").encode(),
    "deep flow": b"seeds: " + b"[" * 5000,
    "deep braces": b"{a: " * 5000,
    "deep but closed": b"seeds: " + b"[" * 200 + b"]" * 200,
    "deep block": b"".join(b" " * n + b"a:\n" for n in range(900)),
    "deep dashes": b"- " * 3000,
    "long key": CONFIG.encode() + b"x" * 100_000 + b": 1\n",
    "long value": CONFIG.encode() + b"xx: " + b"x" * 100_000 + b"\n",
    "many keys": CONFIG.encode() + b"".join(b"x%d: 1\n" % n for n in range(5000)),
    "long key without a value": b"? " + b"x" * 5000,
    "no key": CONFIG.encode() + b": 1\n",
    "a key of a newline": CONFIG.encode() + b'"a\\nb": 1\n',
    "a key of a surrogate": CONFIG.encode() + b'"\\ud800": 1\n',
    "a surrogate": CONFIG.replace("name: fmaml-conv", 'name: "\\ud800"').encode(),
    "keys of numbers": b"1: 2\n1.5: 2\n2020-01-01: 3\n~: 4\ntrue: 5\n",
    "a key twice": CONFIG.encode() + b"experiment: other\n",
    "a section twice": CONFIG.encode() + b"training: {iterations: 1}\n",
    "a key twice within": CONFIG.replace("  meta_batch: 2", "  meta_batch: 2\n  meta_batch: 4").encode(),
    "laughs": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 120)),
    "laughs in a setting": CONFIG.encode()
    + b"xx:\n- &a [x, x]\n"
    + b"".join(b"- &%c [%s]\n" % (n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 120))
    + b"seeds: *w\n",
    "laughs of mappings": b"training: &a {x: 1}\n"
    + b"".join(b"k%c: &%c {l: *%c, r: *%c}\n" % (n, n, n - 1, n - 1) for n in range(98, 122))
    + b"protocols: {strict: *y}\n",
    "itself": CONFIG.encode() + b"xx: &a [*a]\n",
    "itself as an overlay": b"training: &t {x: *t}\nprotocols: {strict: {training: *t}}\nvariants: {5shot: {training: *t}}\n",
    "an alias of nothing": CONFIG.encode() + b"xx: *nothing\n",
    "a merge": CONFIG.encode() + b"<<: {seeds: [1]}\n",
    "a merge of itself": b"a: &a\n  <<: *a\n",
    "a huge number": CONFIG.replace("seeds: [0, 1, 2]", "seeds: [0x" + "f" * 9000 + "]").encode(),
    "a huge decimal": CONFIG.replace("seeds: [0, 1, 2]", "seeds: [" + "9" * 9000 + "]").encode(),
    "a huge number of minutes": CONFIG.replace("seeds: [0, 1, 2]", "seeds: [1" + ":59" * 3000 + "]").encode(),
    "a day that is none": b"day: 2020-99-99\n",
    "a day before all": b"day: 0001-01-01 00:00:00 +23:59\n",
    "an empty number": b"a: !!int ''\n",
    "an empty float": b"a: !!float ''\n",
    "neither true nor false": b"a: !!bool perhaps\n",
    "no time": b"a: !!timestamp noon\n",
    "not base64": b"a: !!binary '*'\n",
    "no set": b"a: !!set [1]\n",
    "no pairs": b"a: !!omap [1]\n",
    "no null": b"seeds: !!null [1]\n",
    "a map of text": b"training: !!map text\n",
    "a directive": b"%YAML 9.9\n---\n" + CONFIG.encode(),
    "a reserved sign": b"a: @b\n",
    "a quote not closed": CONFIG.encode() + b"x: 'a\n",
    "a control character": CONFIG.encode() + b"x: a\x07b\n",
    "a variant elsewhere": CONFIG.replace("  5shot:", "  ../../5shot:").encode(),
    **{
        tag: f"{CONFIG}xx: !!python/{tag}\n".encode()
        for tag in (
            f"object/apply:os.system ['{CODE}']",
            f"object/new:os.system ['{CODE}']",
            f"object/apply:subprocess.check_call [['{CODE}']]",
            "name:os.system",
            "module:os",
            "object:builtins.object {}",
            f"object/apply:builtins.exec ['import os; os.system(\"{CODE}\")']",
            "tuple [1, 2]",
            "bytes ''",
            "complex 1j",
            "none",
            "str x",
            "unicode x",
            "long 1",
        )
    },
    "a tag of one's own": CONFIG.encode() + b"xx: !own 1\n",
    "a tag of an address": CONFIG.encode() + b"xx: !<tag:example.org,2026:x> 1\n",
}

CLIPS = 6
LIST = "path,emotion,speaker,language,gender,text\n" + "".join(
    f"clips/{n}.wav,{'anger' if n % 2 else 'fear'},s{n % 3},el,f,sentence {n}\n" for n in range(CLIPS)
)
#: Whole lists; every one of them is wrong.
LISTS: dict[str, str | bytes] = {
    "nothing": "",
    "a header": "path,emotion\n",
    "blank lines": "\n\n\n",
    "no header": LIST.split("\n", 1)[1],
    "no path": LIST.replace("path", "file", 1),
    "no emotion": LIST.replace("emotion", "feeling", 1),
    "path twice": LIST.replace("text", "path", 1),
    "emotion twice": LIST.replace("text", "Emotion ", 1),
    "gender twice": LIST.replace("text", "gender", 1),
    "ragged": LIST + "clips/0.wav,anger\n",
    "too many": LIST + "clips/0.wav" + ",x" * 999,
    "NUL": LIST.replace("clips/3", "clips/\0"),
    "NULs": "\0" * 5000,
    "huge field": LIST + "x" * 200_000 + ",anger,,,,\n",
    "huge quoted field": LIST + '"' + "x\n" * 200_000,
    "traversal": LIST.replace("clips/3", "../" * 30 + "etc/passwd"),
    "absent": LIST.replace("clips/3", "/nowhere/3"),
    "a folder": LIST.replace("clips/3.wav", "clips"),
    "empty path": LIST.replace("clips/3.wav", " "),
    "empty emotion": LIST.replace("anger", " ", 1),
    "home": LIST.replace("clips/3", "~/3"),
    "a row twice": LIST + LIST.split("\n")[1] + "\n",
    "a clip twice": LIST + "./clips//0.wav,anger,,,,\n",
    "a clip twice, by another way": LIST + "clips/../clips/0.wav,anger,,,,\n",
    "a clip twice, absolute": "",
    "semicolons": LIST.replace(",", ";"),
    "tabs": LIST.replace(",", "\t"),
    "UTF-16": LIST.encode("utf-16"),
    "UTF-32": LIST.encode("utf-32"),
    "not UTF-8": LIST.replace("sentence", "w\xfctend").encode("latin-1"),
    "open quote": LIST + '"clips/0.wav,anger',
    "stray quote": LIST + 'a"b"c"\n"d"e,f\n',
    "gender": LIST.replace(",f,", ",x,", 1),
    "long name": LIST + "x" * 5000 + ",anger,,,,\n",
    "a line break": LIST + '"clips/\n0.wav",anger,,,,\n',
    "header with a line break": '"pa\nth",emotion\nclips/0.wav,anger\n',
    "binary": random.Random(1).randbytes(4000),
    "a pipe": LIST.replace("clips/3.wav", "pipe.wav"),
    "endless": LIST.replace("clips/3.wav", "/dev/zero"),
    "workbook": b"PK\x03\x04" + random.Random(2).randbytes(3000),
}

PAPER = (FMAML / "paper.csv").read_text(encoding="utf-8")
#: Whole tables of a paper; every one of them is wrong.
PAPERS: dict[str, str | bytes] = {
    "nothing": "",
    "no value": PAPER.replace("value", "number", 1),
    "no number": PAPER.replace("0.2433", "lots"),
    "no value given": PAPER.replace("0.2433", ""),
    "infinite": PAPER.replace("0.2433", "inf"),
    "too large": PAPER.replace("0.2433", "1e999"),
    "not a number": PAPER.replace("0.2433", "nan"),
    "a cell twice": PAPER + PAPER.splitlines()[1] + "\n",
    "a field more in all rows": PAPER.replace("\n", ",x\n").replace(",x", "", 1),
    "a field more": PAPER + "5shot,a,b,c,d,0.1,e,f,g\n",
    "open quote": PAPER + '"a,b\n',
    "UTF-16": PAPER.encode("utf-16"),
    "binary": random.Random(3).randbytes(3000),
    "NULs": "\0" * 999,
    "semicolons": PAPER.replace(",", ";"),
}
