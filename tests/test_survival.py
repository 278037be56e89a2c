"""What a run has finished is never lost: models that fail, runs that are killed at any step, disks and folders of all kinds."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from metaser.experiment import trial as module
from metaser.reporting import folder as folders
from metaser.reporting.folder import ResultsFolder
from metaser.runtime import provenance
from metaser.runtime.errors import DivergedError, UserError
from metaser.runtime.files import read_sealed, write_sealed
from support import REPOSITORY, tiny_runs
from support.commands import Result, assert_refused, metaser
from support.tiny_runs import FMAML, THREE, assert_same, command, final, kept, model_file, partial


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_runs.plain(tmp_path_factory.mktemp("experiment") / "plain")


@pytest.fixture(scope="module")
def whole(plain: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nothing happened to."""
    results = tmp_path_factory.mktemp("whole")
    assert metaser(*command(plain, speech, results)).returncode == 0
    return final(results)


@pytest.fixture(scope="module")
def trained(plain: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which all three models are finished and nothing is published."""
    results = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(ResultsFolder, "publish", stop)
        assert metaser(*command(plain, speech, results)).returncode == 130
    assert kept(results) == set(THREE)
    return results


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the models that are trained from now on."""
    algorithms: list[str] = []
    carry_out = module.TrialRun.carry_out

    def noted(self: module.TrialRun, *arguments: object) -> module.TrialResult:
        algorithms.append(self.trial.algorithm)
        return carry_out(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module.TrialRun, "carry_out", noted)
    return algorithms


def failing(patch: pytest.MonkeyPatch, error: BaseException, algorithm: str = "fomaml") -> None:
    """Has one of the models raise in the middle of its training."""
    record = module.TrialRun.record

    def raising(self: module.TrialRun, iteration: int, *values: object) -> None:
        if self.trial.algorithm == algorithm and iteration == 2:
            raise error
        record(self, iteration, *values)  # type: ignore[arg-type]

    patch.setattr(module.TrialRun, "record", raising)


def lines(result: Result) -> list[str]:
    return result.stderr.strip().splitlines()


ERRORS = [
    RuntimeError("could not create a primitive descriptor"), MemoryError(), ValueError("a\nb"), ZeroDivisionError("division"),
    AssertionError(), UserError("no such thing"), DivergedError("training diverged at iteration 2", 2),
    OSError(errno.EIO, "Input/output error"), KeyError("key"), RecursionError("too deep"), TypeError("no number"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_model_that_fails_stops_no_other_and_is_all_that_is_done_again(
    error: Exception, plain: Path, speech: Path, whole: Path, seen: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, error)
        result = metaser(*command(plain, speech, tmp_path))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    named = [line for line in lines(result) if line.startswith("metaser: strict, aa, fomaml, seed 0: ")]
    reason = str(error) if isinstance(error, UserError) else type(error).__name__
    assert reason in named[-1]
    assert kept(tmp_path) == {"fmaml", "supervised"}
    assert not final(tmp_path).exists()
    logs = list((partial(tmp_path) / "logs").glob("*"))
    assert bool(logs) != isinstance(error, UserError)
    assert all("Traceback" in log.read_text() and str(log) in named[-1] for log in logs)
    seen.clear()
    assert metaser(*command(plain, speech, tmp_path)).returncode == 0
    assert seen == ["fomaml"]
    assert_same(final(tmp_path), whole)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_ends_the_whole_run_leaves_the_finished_models(
    stop: BaseException, plain: Path, speech: Path, whole: Path, seen: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, stop)
        result = metaser(*command(plain, speech, tmp_path))
    assert result.returncode == (130 if isinstance(stop, KeyboardInterrupt) else 2), result.stderr
    assert kept(tmp_path) == {"fmaml"}
    seen.clear()
    assert metaser(*command(plain, speech, tmp_path)).returncode == 0
    assert seen == ["fomaml", "supervised"]
    assert_same(final(tmp_path), whole)


def test_another_method_another_seed_or_another_target_costs_only_its_models(
    plain: Path, speech: Path, seen: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        failing(patch, ValueError("no"))
        assert metaser(*command(plain, speech, tmp_path)).returncode == 1
        for changes, trained in (
            (["compare=[fmaml, supervised, fomaml, supervised-all]", "algorithms.supervised-all={name: supervised}"],
             ["fomaml", "supervised-all"]),
            (["seeds=[0, 1]", "compare=[fmaml]"], ["fmaml"]),
            (["data.targets=[aa, bb]", "compare=[fmaml]"], ["fmaml"]),
            (["training.monitored=[fmaml]", "compare=[fmaml, fomaml]"], ["fomaml"]),
        ):  # fmt: skip
            seen.clear()
            patch.setattr(ResultsFolder, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert metaser(*command(plain, speech, tmp_path, *changes)).returncode in (1, 130)
            assert seen == trained


def test_a_changed_setting_is_refused_with_the_difference_and_only_where_it_matters(
    plain: Path, speech: Path, trained: Path, seen: list[str], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    changed = command(plain, speech, tmp_path, "algorithms.fomaml.inner_lr=0.123")
    assert_refused(metaser(*changed), "fomaml", "inner_lr", "0.123 now", "--no-resume")
    assert kept(tmp_path) == set(THREE)
    assert seen == []
    assert metaser(*changed, "--no-resume").returncode == 0
    assert seen == list(THREE)


def test_models_of_other_runs_stay_when_a_run_ends_well(
    plain: Path, speech: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    result = metaser(*command(plain, speech, tmp_path, compare=("fmaml",)))
    assert result.returncode == 0
    assert "keeps 2 finished models" in result.stderr
    assert kept(tmp_path) == {"fomaml", "supervised"}
    assert final(tmp_path).is_dir()


@pytest.mark.parametrize("content", ["", "{}", '{"digest": "x", "content": {}}', "half"])
def test_a_damaged_model_is_said_and_trained_again(
    content: str, plain: Path, speech: Path, trained: Path, whole: Path, seen: list[str], tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    file = model_file(tmp_path, "fomaml")
    file.write_text(file.read_text()[:500] if content == "half" else content)
    result = metaser(*command(plain, speech, tmp_path))
    assert f"{file}: is damaged" in result.stderr
    assert seen == ["fomaml"]
    assert_same(final(tmp_path), whole)


def test_a_run_of_an_earlier_version_is_pointed_to_and_left_alone(plain: Path, speech: Path, tmp_path: Path) -> None:
    older = final(tmp_path).with_name(".real.partial") / "identity.json"
    older.parent.mkdir(parents=True)
    older.write_text("{}")
    result = metaser(*command(plain, speech, tmp_path, compare=("fmaml",)))
    assert result.returncode == 0
    assert f"{older.parent}: holds an unfinished run of an earlier version" in result.stderr
    assert older.read_text() == "{}"


def test_a_models_file_says_what_made_it(trained: Path, whole: Path) -> None:
    for algorithm in THREE:
        file = model_file(trained, algorithm)
        assert file.name.startswith(f"strict-aa-{algorithm}-seed0-")
        content = read_sealed(file)
        processor = content["made"]["processor"]
        assert processor == provenance.processor()
        assert {"processor", "instruction_sets", "aten", "onednn"} <= processor.keys()
        assert set(content["identity"]["settings"]["algorithms"]) == {algorithm}
        assert {"commit", "versions", "time"} <= content["made"].keys()
    facts = json.loads((whole / "run.json").read_text())
    assert facts["hardware"]["instruction_sets"] == processor["instruction_sets"]
    assert facts["processors"] == {provenance.described(processor): 3}


def test_models_of_two_processors_are_named_in_the_table(
    plain: Path, speech: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    content = read_sealed(model_file(tmp_path, "fomaml"))
    content["made"]["processor"] |= {"processor": "Another 9000", "instruction_sets": ["avx512f"]}
    write_sealed(model_file(tmp_path, "fomaml"), content)
    assert metaser(*command(plain, speech, tmp_path)).returncode == 0
    assert "2 kinds of processors" in (final(tmp_path) / "table.md").read_text()
    processors = json.loads((final(tmp_path) / "run.json").read_text())["processors"]
    assert sorted(processors.values()) == [1, 2]
    assert any("Another 9000 (avx512f" in name for name in processors)


# --- the finished part, drawn ---


def test_the_finished_part_is_drawn_elsewhere_and_marked(speech: Path, trained: Path, tmp_path: Path) -> None:
    """By the real experiment; only JSON files have travelled, and the speech has not."""
    for file in [partial(trained) / "run.json", *(partial(trained) / "models").glob("*.json")]:
        copy = tmp_path / "real.partial" / file.relative_to(partial(trained))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    next((tmp_path / "real.partial" / "models").glob("*fomaml*")).unlink()
    result = metaser("render", FMAML, tmp_path / "real.partial")
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "real.partial" / "table.md").read_text()
    assert table.startswith("**INCOMPLETE: 2 of 3 models**")
    assert "INCOMPLETE: 2 of 3 models" in next(line for line in table.splitlines() if line.startswith("# "))
    assert (tmp_path / "real.partial" / "accuracy.png").exists()
    assert len(pd.read_csv(tmp_path / "real.partial" / "tasks.csv")) == 2 * 3
    assert not (tmp_path / "real").exists()


def test_what_was_drawn_of_a_part_goes_when_the_whole_is_there(
    plain: Path, speech: Path, trained: Path, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    assert metaser("render", plain, partial(tmp_path)).returncode == 0
    assert (partial(tmp_path) / "drawn.txt").read_text().endswith("INCOMPLETE: 3 of 3 models")
    assert metaser(*command(plain, speech, tmp_path)).returncode == 0
    assert_same(final(tmp_path), whole)


def test_of_nothing_finished_nothing_is_drawn(plain: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for algorithm in THREE:
        model_file(tmp_path, algorithm).unlink()
    assert_refused(metaser("render", plain, partial(tmp_path)), "no model is finished")
    (partial(tmp_path) / "models" / "damaged.json").write_text("{}")
    assert_refused(metaser("render", plain, partial(tmp_path)), "none of the 3 models is finished")
    (partial(tmp_path) / "run.json").write_text("[]")
    assert_refused(metaser("render", plain, partial(tmp_path)), "run.json")


def test_a_plot_that_fails_loses_no_number(
    plain: Path, speech: Path, whole: Path, seen: list[str], tmp_path: Path
) -> None:
    broken = shutil.copytree(plain, tmp_path / "broken")
    (broken / "run.py").write_text(
        tiny_runs.PLAIN.replace('write_text(finished.folder / "table.md"', "raise ValueError(7) #")
    )
    result = metaser(*command(broken, speech, tmp_path / "r"))
    assert result.returncode == 1
    assert "drawing failed (ValueError: 7)" in lines(result)[-1]
    assert f"metaser render {broken} {final(tmp_path / 'r')}" in lines(result)[-1]
    assert "Traceback" not in result.stderr
    assert not partial(tmp_path / "r").exists()
    assert metaser("render", plain, final(tmp_path / "r")).returncode == 0
    assert_same(final(tmp_path / "r"), whole)


# --- where results go ---


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A folder with a small file system of its own; skips the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=2m", *options)), "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("this user may mount nothing")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, timeout=30)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Where results are going to be, a mount point."""
    yield from mounted(final(tmp_path / "r"))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(final(tmp_path / "r"), "ro")


def test_results_on_a_mount_point(plain: Path, speech: Path, mount: Path, whole: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert metaser(*command(plain, speech, tmp_path / "r")).returncode == 0
        assert_same(mount, whole)


def test_results_on_a_link_to_another_folder(plain: Path, speech: Path, whole: Path, tmp_path: Path) -> None:
    place = final(tmp_path / "r")
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    for _ in range(3):
        assert metaser(*command(plain, speech, tmp_path / "r")).returncode == 0
        assert place.is_symlink()
        assert_same(place, whole)


def test_a_link_to_nothing_is_named_before_anything_is_trained(
    plain: Path, speech: Path, seen: list[str], tmp_path: Path
) -> None:
    place = final(tmp_path)
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "nowhere")
    assert_refused(metaser(*command(plain, speech, tmp_path)), str(place), "link to nothing")
    assert seen == []


def test_a_read_only_folder_is_named_before_features_are_computed(
    plain: Path, speech: Path, read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaser.experiment.data.extract", lambda *_: pytest.fail("too late"))
    assert_refused(
        metaser(*command(plain, speech, tmp_path / "r")), str(read_only), "Read-only file system", "--results"
    )
    assert not partial(tmp_path / "r").exists()


def test_a_disk_that_is_full_is_named_before_features_are_computed(
    plain: Path, speech: Path, mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaser.experiment.data.extract", lambda *_: pytest.fail("too late"))
    (mount / "mine").write_bytes(bytes(2 << 20))
    assert_refused(metaser(*command(plain, speech, tmp_path / "r")), str(mount), "No space left on device", "make room")
    assert [path.name for path in mount.iterdir()] == ["mine"]


def test_a_disk_that_fills_up_while_results_are_published_loses_nothing(
    plain: Path, speech: Path, mount: Path, whole: Path, seen: list[str], tmp_path: Path
) -> None:
    publish = ResultsFolder.publish

    def full(self: ResultsFolder, models: dict[str, str]) -> None:
        if not (mount / "mine").exists():
            (mount / "mine").write_bytes(bytes((2 << 20) - 16 * 1024))
        publish(self, models)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResultsFolder, "publish", full)
        assert_refused(metaser(*command(plain, speech, tmp_path / "r")), "No space left on device")
    assert kept(tmp_path / "r") == set(THREE)
    assert_refused(metaser("render", plain, mount), "files of two runs", "run the same command again")
    (mount / "mine").unlink()
    seen.clear()
    assert metaser(*command(plain, speech, tmp_path / "r")).returncode == 0
    assert seen == []
    assert_same(mount, whole)


def test_of_an_earlier_run_what_is_not_written_again_goes_and_a_users_files_stay(
    plain: Path, speech: Path, whole: Path, tmp_path: Path
) -> None:
    drawing = shutil.copytree(plain, tmp_path / "drawing")
    (drawing / "run.py").write_text(tiny_runs.PLAIN.replace("drawn.txt", "steps.txt"))
    assert metaser(*command(drawing, speech, tmp_path / "r")).returncode == 0
    (final(tmp_path / "r") / "notes.txt").write_text("mine")
    (final(tmp_path / "r") / "steps.png").write_text("mine, too: no run says that it wrote it")
    assert metaser(*command(plain, speech, tmp_path / "r")).returncode == 0
    assert {path.name for path in final(tmp_path / "r").iterdir()} == {
        *(path.name for path in whole.iterdir()), "notes.txt", "steps.png"
    }  # fmt: skip


def test_of_a_run_that_lists_no_files_the_known_ones_go(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "e" / "v" / "real")
    folder.final.mkdir(parents=True)
    for name in ("fractions.png", "mine.png", "run.json"):
        (folder.final / name).write_text("{}")
    with folder.writing() as path:
        (path / "table.md").write_text("new")
    assert {entry.name for entry in folder.final.iterdir()} == {"mine.png", "table.md"}


def test_names_in_a_run_json_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "e" / "v" / "real")
    folder.final.mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (folder.final / "run.json").write_text(
        json.dumps({"files": ["../../../mine", str(tmp_path / "mine"), "..", 3, "gone"]})
    )
    with folder.writing() as path:
        (path / "table.md").write_text("new")
    assert (tmp_path / "mine").read_text() == "mine"


# --- killed at every step ---

#: Imports metaser once, then runs a command per line of its input in a process of its own (by fork, before any thread is
#: started). The process ends as if killed before the n-th call that changes a results folder; it notes what it trains.
DRIVER = """
import json, os, sys
import metaser.experiment, metaser.config.folder
from metaser import cli
from metaser.experiment import trial as module

def dying_at(count, call):
    def called(*arguments, **options):
        global left
        left -= 1
        if not left:
            os._exit(9)
        return call(*arguments, **options)
    return called

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        for number in (1, 2):
            os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        left, carry_out = job["at"], module.TrialRun.carry_out
        for name in ("replace", "unlink", "remove", "rmdir", "mkdir", "fsync"):
            setattr(os, name, dying_at(job["at"], getattr(os, name)))
        def noted(self, *arguments):
            print("TRAINED", self.trial.algorithm, flush=True)
            return carry_out(self, *arguments)
        module.TrialRun.carry_out = noted
        sys.argv = ["metaser", *job["command"]]
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 70
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Driver:
    """Runs that end as if killed at the n-th call that changes files."""

    def __init__(self, log: Path) -> None:
        self.log = log
        variables = {name: value for name, value in os.environ.items() if name != "METASER_DATA"}
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=variables, cwd=REPOSITORY)  # fmt: skip

    def run(self, command: list[str], at: int = 0) -> tuple[int, list[str]]:
        """A run's exit code, 9 if it was killed; and the algorithms of the models that it trained."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.log.write_text("")
        guard = threading.Timer(300, self.process.kill)
        guard.start()
        print(json.dumps({"command": command, "at": at, "log": str(self.log)}), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline() or -1)
        guard.cancel()
        said = self.log.read_text()
        assert code in (0, 9), said
        return code, [line.split()[1] for line in said.splitlines() if line.startswith("TRAINED")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("driver") / "log")
    yield driver
    driver.process.stdin.close()  # type: ignore[union-attr]
    driver.process.wait(60)


def check(place: Path, whole: Path, earlier: bool) -> None:
    """A final folder at any moment: the earlier results, the new ones, or refused; a file that was being written is none."""
    names = {path.name for path in place.glob("*") if path.suffix != ".tmp"} - {folders.COMPLETE}
    if not names or folders.MIXED in names:
        return
    if earlier and "earlier.txt" in names:
        assert (place / "table.md").read_text() == "earlier"
    else:
        for name in tiny_runs.REPEATED:
            assert (place / name).read_bytes() == (whole / name).read_bytes(), name


def every_step(
    start: Callable[[Path], None], run: list[str], driver: Driver, whole: Path, results: Path, step: int, most: int
) -> int:
    """Kills a run at every so many steps until it survives; after each kill the same command ends well.

    Args:
        start: Makes the results folder as it is before.
        run: The command.
        driver: Runs it.
        whole: What a run gives that nobody killed.
        results: Its results folder.
        step: From one kill to the next.
        most: The most models that may be trained after the kill.

    Returns:
        How many kills there were.
    """
    for count, at in enumerate(range(1, 10_000, step)):
        shutil.rmtree(results, ignore_errors=True)
        start(results)
        code, before = driver.run(run, at)
        if code == 0:
            assert_same(final(results), whole)
            return count
        done = kept(results) if partial(results).exists() else set()
        check(final(results), whole, earlier=True)
        code, after = driver.run(run)
        assert code == 0
        assert len(after) <= most
        assert not done & set(after), f"killed at step {at}: a finished model was trained again"
        assert len(before) + len(after) <= len(THREE) + 1, "all but the one that was killed are trained once"
        assert_same(final(results), whole)
    raise AssertionError("it never survived")


#: From one kill to the next; with METASER_KILLS every step has its own, which takes ten minutes.
STEP = 1 if "METASER_KILLS" in os.environ else 5


@pytest.mark.slow
def test_a_run_killed_while_it_finishes_trains_nothing_again(
    driver: Driver, plain: Path, speech: Path, trained: Path, whole: Path, tmp_path: Path
) -> None:
    """All models are there; an earlier run's results are in the folder where the new ones go."""

    def start(results: Path) -> None:
        shutil.copytree(trained, results)
        final(results).mkdir()
        for name in ("table.md", "earlier.txt"):
            (final(results) / name).write_text("earlier")
        (final(results) / "run.json").write_text(json.dumps({"files": ["table.md", "earlier.txt", "run.json"]}))

    kills = every_step(start, command(plain, speech, tmp_path / "r"), driver, whole, tmp_path / "r", STEP, most=0)
    assert kills > 20 // STEP


@pytest.mark.slow
def test_a_run_killed_at_any_step_trains_no_finished_model_again(
    driver: Driver, plain: Path, speech: Path, whole: Path, tmp_path: Path
) -> None:
    run = command(plain, speech, tmp_path / "r")
    assert every_step(lambda _: None, run, driver, whole, tmp_path / "r", STEP, most=3) > 60 // STEP
