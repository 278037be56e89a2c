"""The pages of documentation: their examples are run, their commands and links are there."""

from __future__ import annotations

import json
import re
import shlex
from itertools import product, takewhile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from metaser import algorithms, config, corpora, models
from metaser.config.study import Study
from metaser.experiment.run import check_names
from metaser.runtime.progress import QUIET
from metaser.training import learners, methods
from support import REPOSITORY
from support.commands import metaser
from support.tasks import toy_task

ALGORITHM, CORPUS = (
    REPOSITORY / "metaser" / "algorithms" / "README.md",
    REPOSITORY / "metaser" / "corpora" / "README.md",
)
PAGES = (ALGORITHM, CORPUS, REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md")),
         *sorted(REPOSITORY.glob("experiments/**/*.md")))  # fmt: skip


def examples(page: Path) -> list[str]:
    """The Python code of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def ran(code: str) -> dict[str, object]:
    space: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "example", "exec", dont_inherit=True), space)
    return space


def test_the_algorithm_of_the_page_trains_and_with_one_step_is_fomaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, line = examples(ALGORITHM)
    own = ran(code)["MultiStep"]
    assert line.strip() == '"multistep": MultiStep,'
    for registry in (algorithms.ALGORITHMS, methods.LEARNERS):
        monkeypatch.setitem(registry, "multistep", own)
    task = toy_task(shape=(4, 1))

    def gradients(name: str, steps: int) -> list[torch.Tensor]:
        settings = methods.configured(name, inner_lr=0.1, steps=steps)
        learner = learners.build(settings, [models.build("mlp", (4, 1), 3, 0).double()], config.Engine(layout="task"))
        return list(learner.meta_gradient(learner.engine.group([task])).gradients)

    for mine, theirs in zip(gradients("multistep", 1), gradients("fomaml", 1), strict=True):
        torch.testing.assert_close(mine, theirs)
    paths = [gradients("fomaml", steps) for steps in (1, 2, 3)]
    for mine, *theirs in zip(gradients("multistep", 3), *paths, strict=True):
        torch.testing.assert_close(mine, torch.stack(theirs).mean(dim=0))
    (command,) = re.findall(
        r"^    metaser run (.*?)\n\n", ALGORITHM.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    folder, *words = shlex.split(command.replace("\\\n", " "))
    chosen = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    settings = Study(REPOSITORY / folder / "config.yaml", methods).experiment(
        variant=words[1], protocol="strict", overrides=chosen
    )
    check_names(settings)
    assert list(settings.algorithms) == ["maml", "mine"]
    assert settings.algorithms["mine"].name == "multistep"


def test_the_corpus_of_the_page_is_read_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = examples(CORPUS)
    corpus = ran(code)["Esperanto"]()  # type: ignore[operator]
    monkeypatch.setitem(corpora.CORPORA, corpus.name, corpus)
    folder = tmp_path / "Esperanto"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in product(("v01", "z01"), ("gxo", "kol", "tri", "neu"), "1234"):
        soundfile.write(folder / f"{'-'.join(name)}.wav", 0.1 * rng.normal(size=1600), 16000)
    table = corpus.table(folder)
    assert len(table) == corpus.expected.total == 32
    assert set(table["emotion"]) == set(corpus.expected.emotions)
    assert table["gender"].value_counts().to_dict() == {"f": 16, "m": 16}
    assert "ESPERANTO" in metaser("data", "list", data=tmp_path).stdout
    (here,) = [entry for entry in json.loads(metaser("data", "list", "--json", data=tmp_path).stdout) if entry["clips"]]
    assert (here["name"], here["clips"], here["release_clips"], here["folder"]) == ("esperanto", 32, 32, str(folder))
    checked = metaser("data", "verify", "esperanto", "--json", data=tmp_path)
    (report,) = json.loads(checked.stdout)
    assert (checked.returncode, report["ok"], report["clips"], report["findings"]) == (0, True, 32, [])
    assert report["counts"]["emotion"]["anger"] == {"found": 8, "expected": 8}
    (folder / "v01-gxo-1.wav").write_bytes(b"RIFF")
    checked = metaser("data", "verify", "--json", data=tmp_path)
    assert (checked.returncode, json.loads(checked.stdout)[0]["ok"]) == (1, False)


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere_and_targets_and_commands_are_known(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in re.findall(r"`make ([a-z0-9-]*[a-z0-9])[` ]", text) + re.findall(
        r"^    make ([a-z0-9-]+)", text, re.MULTILINE
    ):
        assert target in phony.split(), target
    known = metaser("--help").stdout
    for command in re.findall(r"(?:`|^    |bin/)metaser ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^  {command} ", known, re.MULTILINE), command


def named(lines: list[str]) -> list[str]:
    """The commands that a help page lists."""
    return [line.split()[0] for line in takewhile(str.strip, lines[lines.index("Commands:") + 1 :])]


@pytest.mark.quick
def test_help_fits_a_screen_and_every_command_has_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = metaser("--help").stdout.splitlines()
    assert len(lines) <= 26
    assert max(map(len, lines)) <= 80
    commands = [(name,) for name in named(lines) if name != "data"]
    commands += [("data", name) for name in named(metaser("data", "--help").stdout.splitlines())]
    assert {("adapt",), ("predict",), ("data", "list")} < set(commands)
    for command in commands:
        assert f"Example: metaser {' '.join(command)}" in metaser(*command, "--help").stdout, command
    assert "Exit codes" in "\n".join(lines)


def test_quiet_is_the_result_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(QUIET, "")  # so that what the command sets is undone
    command = [
        "run",
        REPOSITORY / "experiments" / "fmaml",
        "--variant",
        "5shot",
        "--set",
        "data.targets=[xx]",
        "--results",
        tmp_path,
    ]
    loud, listed = metaser(*command), metaser("data", "list")
    assert "SYNTHETIC" in loud.stderr
    quiet = metaser("--quiet", *command)
    assert quiet.returncode == loud.returncode == 2
    assert quiet.stderr.strip().splitlines() == loud.stderr.strip().splitlines()[-1:]
    assert metaser("-q", "data", "list").stdout == listed.stdout
