"""What a command imports: nothing that it does not use, so that it starts fast."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binomtest

from metaser.adaptation.estimate import Estimate
from metaser.corpora import CORPORA
from support import FMAML, REPOSITORY
from support.commands import FEW, SMALL, environment, metaser
from support.limit import LIMIT

#: Runs a command and prints which of some modules it imported. Without qpth, which metaser does not ask for: where it is,
#: learn2learn imports it, and with it cvxpy.
PROBE = """
import json, sys
from metaser.cli import main
sys.modules["qpth"] = None
unwanted = json.loads(sys.argv.pop(1))
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
print("\\n" + json.dumps(sorted(set(unwanted) & set(sys.modules))))
"""

#: What learn2learn brings along.
UNUSED = ("gym", "torchvision", "cvxpy")
#: What a prediction, and an estimate of how good predictions are, can do without.
STATISTICS = ("sklearn", "scipy.stats", "scipy.signal", "scipy.optimize", "matplotlib")
COMPILERS = ("sympy", "torch._dynamo", "torch._inductor")
LARGE = ("torch", "torchaudio", "learn2learn", "pandas", "scipy", "sklearn", "matplotlib", "pooch", "requests", "yaml")


def imported(unwanted: tuple[str, ...], *arguments: object, data: Path | None = None) -> list[str]:
    """Which of some modules a command that succeeds imports, in a process of its own."""
    variables = environment(**({"METASER_DATA": str(data)} if data else {}))
    line = [sys.executable, "-c", PROBE, json.dumps(unwanted), *map(str, arguments)]
    result = subprocess.run(
        line, capture_output=True, text=True, env=variables, cwd=REPOSITORY, check=False, timeout=LIMIT
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def corpus(own_cache: Path) -> Path:
    """The synthetic corpus."""
    folder = CORPORA["synthetic"].locate(None)
    assert folder is not None
    return folder


@pytest.fixture(scope="module", params=["gaussian", "fomaml"])
def adapted(
    request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A model, and clips to adapt it to."""
    folder = tmp_path_factory.mktemp("model")
    small = [part for setting in ("training.iterations=2", "training.meta_batch=2") for part in ("--set", setting)]
    result = metaser("train", folder / "model.safetensors", "--experiment", REPOSITORY / "experiments" / "adapt",
                     "--algorithm", request.param, *small)  # fmt: skip
    assert result.returncode == 0, result.stderr
    for emotion in ("anger", "sadness"):
        (folder / "clips" / emotion).mkdir(parents=True)
        for clip in sorted(corpus.glob(f"x-ako/*_{emotion}_*.flac"))[:3]:
            (folder / "clips" / emotion / clip.name).write_bytes(clip.read_bytes())
    return folder / "model.safetensors", folder / "clips"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["predict", "--help"], ["data", "fetch", "--help"]]
)
def test_help_imports_nothing_large(arguments: list[str]) -> None:
    assert imported((*LARGE, "numpy", "soundfile", "PIL"), *arguments) == []


def test_the_list_of_corpora_reads_file_names_alone(corpus: Path, tmp_path: Path) -> None:
    """NumPy is there: the tables that the synthetic corpus is made by are arrays."""
    clip = tmp_path / "emodb" / "wav" / "03a01Wa.wav"
    clip.parent.mkdir(parents=True)
    clip.touch()
    assert imported(LARGE[:-3], "data", "list", data=tmp_path) == []
    assert imported(LARGE[:-3], "data", "list", "--json", data=tmp_path) == []


def test_a_corpus_is_verified_without_torch(tmp_path: Path) -> None:
    clip = tmp_path / "emodb" / "wav" / "03a01Wa.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"no sound")
    line = PROBE.replace("assert not leaving.code", "assert leaving.code == 1")
    arguments = [sys.executable, "-c", line, '["torch", "scipy"]', "data", "verify", "emodb", "--root", str(tmp_path)]
    result = subprocess.run(
        arguments, capture_output=True, text=True, env=environment(), cwd=REPOSITORY, check=False, timeout=LIMIT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_model_is_adapted_and_asked_with_what_it_needs(adapted: tuple[Path, Path], tmp_path: Path) -> None:
    model, clips = adapted
    mine, clip = tmp_path / "mine.safetensors", next(clips.glob("anger/*.flac"))
    unwanted = (*UNUSED, *STATISTICS, *COMPILERS, "pooch", "PIL")
    assert imported(unwanted, "adapt", model, clips, mine) == []
    for form in ([], ["--csv"], ["--json"]):
        assert imported(unwanted, "predict", mine, clip, *form) == []


@pytest.mark.slow
def test_a_run_imports_nothing_of_what_learn2learn_brings_along(tmp_path: Path) -> None:
    settings = [part for setting in (*SMALL, *FEW) for part in ("--set", setting)]
    line = ["run", FMAML, "--variant", "5shot", "--protocol", "strict", "--results", tmp_path, *settings]
    assert imported(UNUSED, *line) == []  # torch's compiler is there: its optimisers import it


@pytest.mark.parametrize(("right", "clips"), [(0, 1), (1, 1), (3, 7), (28, 35), (35, 35), (211, 400)])
def test_the_interval_of_an_estimate_is_wilsons(right: int, clips: int) -> None:
    expected = binomtest(right, clips).proportion_ci(method="wilson")
    assert Estimate(right, clips, "").interval == pytest.approx((expected.low, expected.high), abs=1e-12)


# --- the house ---

#: The rooms, each after all that it imports.
ROOMS = ("runtime", "config", "corpora", "features", "images", "tasks", "engine", "models", "algorithms", "baselines", "training",
         "reporting", "experiment", "adaptation", "cli")  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package."""
    package = REPOSITORY / "metaser"
    return {".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
            for path in package.rglob("*.py")}  # fmt: skip


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                whole if (whole := f"{node.module}.{alias.name}") in known else node.module for alias in node.names
            }
    return found & known.keys()


@pytest.mark.quick
def test_the_rooms_are_those_that_are_listed() -> None:
    known = {name.split(".")[1] for name in modules() if "." in name}
    assert known == {*ROOMS, "__main__"}


@pytest.mark.quick
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_earlier_ones_only(room: str) -> None:
    """What `metaser.__init__` imports late, for users, is not looked at."""
    known = modules()
    for name, path in known.items():
        if name.split(".")[1:2] == [room]:
            others = {other.split(".")[1] for other in imports(path, known) if "." in other} - {room}
            assert others <= set(ROOMS[: ROOMS.index(room)]), name


@pytest.mark.quick
def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    graph = {name: imports(path, known) for name, path in known.items() if name != "metaser"}
    graphlib.TopologicalSorter({name: others - {name} for name, others in graph.items()}).prepare()
