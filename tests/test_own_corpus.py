"""A corpus that a user describes in a file of their own: every command takes it, and each mistake in it is one line."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from metaser import config
from metaser.corpora import find
from metaser.corpora.selection import select
from metaser.runtime.errors import UserError
from metaser.tasks import corpus_tasks
from support import REPOSITORY
from support.commands import assert_refused, metaser

OWN = f"{REPOSITORY / 'examples' / 'own_corpus.py'}:Esperanto"


def fill(folder: Path, names: list[tuple[str, ...]]) -> Path:
    """Clips of a tenth of a second by those names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        soundfile.write(folder / f"{'-'.join(name)}.wav", 0.1 * rng.normal(size=1600), 16000)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the example's corpus, whole."""
    root = tmp_path_factory.mktemp("root")
    fill(root / "Esperanto", list(product(("v01", "z01"), ("gxo", "kol", "tri", "neu"), "1234")))
    return root


def test_the_page_shows_the_example() -> None:
    page = (REPOSITORY / "docs" / "adding_a_corpus.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = (REPOSITORY / "examples" / "own_corpus.py").read_text(encoding="utf-8")
    assert shown == example[example.index("import re") :]


def test_it_is_listed_and_verified_by_its_file(root: Path) -> None:
    (entry,) = json.loads(metaser("data", "list", OWN, "--json", data=root).stdout)
    assert (entry["name"], entry["clips"], entry["release_clips"]) == ("esperanto", 32, 32)
    listed = metaser("data", "list", OWN, data=root).stdout
    assert f"there: 32 of 32 clips in {root / 'Esperanto'}" in listed
    assert "emodb" not in listed
    checked = metaser("data", "verify", OWN, "--json", data=root)
    (report,) = json.loads(checked.stdout)
    assert (checked.returncode, report["ok"], report["clips"], report["findings"]) == (0, True, 32, [])
    assert report["counts"]["emotion"]["anger"] == {"found": 8, "expected": 8}


def test_a_collection_names_it_beside_the_others(root: Path) -> None:
    fill(root / "emovo", [("dis-f1-b1",), ("gio-f1-b1",)])
    data = config.Data(
        collections={"mine": config.Collection(corpora=["emovo", OWN])}, emotions=["happiness", "disgust"]
    )
    speech = select(data, config.Tasks(ways=2, shots=1), root)
    assert speech.table.groupby("corpus").size().to_dict() == {"emovo": 2, "esperanto": 8}
    assert speech.domains == ("eo", "it")
    assert speech.table["gender"].value_counts().to_dict() == {"f": 6, "m": 4}
    again = OWN.replace("/own_", "/./own_")
    twice = config.Data(collections={"mine": config.Collection(corpora=[OWN, again])},
                        emotions=["happiness", "anger"])  # fmt: skip
    with pytest.raises(UserError, match="two are called 'esperanto'"):
        select(twice, config.Tasks(ways=2, shots=1), root)


def test_tasks_are_drawn_from_it(root: Path, own_cache: Path) -> None:
    tasks = corpus_tasks(OWN, ["happiness", "anger", "sadness"], shots=2, queries=2, features="functionals", root=root)
    assert tasks[0].support_y.bincount().tolist() == [2, 2, 2]


def test_a_module_of_the_current_folder_is_found(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_esperanto.py").write_text((REPOSITORY / "examples" / "own_corpus.py").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    assert len(find("my_esperanto:Esperanto").table(root / "Esperanto")) == 32


WHOLE = """
import re
from metaser.corpora.base import Corpus

class Mine(Corpus):
    name, title, languages, licence, home, access = "mine", "MINE", ("xx",), "none", "here", "ask me"
    grammar = re.compile(r"(?P<emotion>[a-z]+)")
    emotions = {"w": "anger", "f": "happiness"}
"""


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("class Mine", "class Mein"), ["has no class Mine", "did you mean 'Mein'?"]),
        (("(Corpus)", ""), ["has no class Mine", "metaser.corpora.base.Corpus"]),
        (("import re", "import ree"), ["cannot be imported", "No module named 'ree'"]),
        (("class Mine", "class"), ["cannot be imported", "invalid syntax"]),
        (("re.compile", "re.compil"), ["cannot be imported (AttributeError", "compil"]),
        (('"mine"', '""'), ["name must be a text, not ''"]),
        (("title, ", "tilte, "), ["title must be a text; it is missing"]),
        (('("xx",)', '"xx"'), ["languages must be a tuple of codes, such as ('de',), not 'xx'"]),
        (('"mine"', '"../mine"'), ["its name '../mine' cannot be a folder's"]),
        (('"mine"', '"emodb"'), ["its name 'emodb' is that of a corpus that metaser knows"]),
        (("grammar =", "gramar ="), ["it has no grammar"]),
        (("<emotion>", "<emotoin>"), ["its grammar has a group 'emotoin'; did you mean 'emotion'?"]),
        (("(?P<emotion>", "("), ["no group (?P<emotion>...)"]),
        (("emotions =", "emotion ="), ["emotions must map its codes"]),
        (("    grammar", "    def __init__(self, x): pass\n    grammar"), ["cannot be made (TypeError", "'x'"]),
        (("    grammar", "    def parse(self, path): return self.codes[path.stem]\n    grammar"),
         ["f.wav: parse of", "fails at this name (AttributeError"]),
        (("    grammar", "    def parse(self, path): return path.stem\n    grammar"), ["parse of", "gives 'f', no Utterance"]),
        (("[a-z]+", "[A-Z]+"), ["no clip in", "is named as MINE names its clips; ask me"]),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(tmp_path: Path, change: tuple[str, str], parts: list[str]) -> None:
    fill(tmp_path / "data" / "mine", [("w",), ("f",)])
    file = tmp_path / "my_corpus.py"
    file.write_text(WHOLE)
    assert len(find(f"{file}:Mine").table(tmp_path / "data" / "mine")) == 2
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WHOLE.replace(*change))
    with pytest.raises(UserError) as caught:
        find(f"{wrong}:Mine").table(tmp_path / "data" / "mine")
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_a_grammar_with_slashes_reads_folders(tmp_path: Path) -> None:
    for speaker, emotion in product(("ana", "bo"), ("w", "f")):
        fill(tmp_path / "mine" / speaker / emotion, [("07",)])
    file = tmp_path / "folders.py"
    file.write_text(WHOLE.replace("(?P<emotion>[a-z]+)", r"(?P<speaker>\w+)/(?P<emotion>\w)/\d+"))
    table = find(f"{file}:Mine").table(tmp_path / "mine")
    assert table[["speaker", "emotion"]].to_numpy().tolist() == [
        ["ana", "happiness"], ["ana", "anger"], ["bo", "happiness"], ["bo", "anger"]]  # fmt: skip
    assert table["group"].is_unique


def test_a_corpus_of_ones_own_that_is_not_there_is_told_with_how_to_get_it(root: Path, tmp_path: Path) -> None:
    assert_refused(
        metaser("data", "verify", OWN, data=tmp_path), "corpus esperanto", "no folder 'esperanto'", "it is made up"
    )
    assert_refused(metaser("data", "verify", "nowhere.py:Esperanto", data=root), "nowhere.py: cannot be imported")


def test_models_of_other_labels_are_not_mixed(root: Path, tmp_path: Path) -> None:
    """What is said of the user's clips is part of a model's identity; a remark in the file is not."""
    text = (REPOSITORY / "examples" / "own_corpus.py").read_text(encoding="utf-8")
    changes = {"same": text + "# a remark", "other": text.replace('"z01": "m"', '"z01": "f"')}
    digests = {}
    for name, content in {"first": text, **changes}.items():
        (tmp_path / f"{name}.py").write_text(content)
        data = config.Data(collections={"mine": config.Collection(corpora=[f"{tmp_path / name}.py:Esperanto"])},
                           emotions=["happiness", "anger"])  # fmt: skip
        digests[name] = select(data, config.Tasks(ways=2, shots=1), root, fewest=1).own_labels
    assert digests["first"] == digests["same"] != digests["other"]
