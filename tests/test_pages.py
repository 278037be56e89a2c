"""The pages of documentation: their examples are run, their commands and links are there."""

from __future__ import annotations

import importlib
import re
import shlex
from itertools import product, takewhile
from operator import attrgetter
from pathlib import Path

import pytest
import torch
import yaml

from metaser import algorithms, config, models
from metaser.config.study import Study
from metaser.experiment.data import check_names
from metaser.runtime.errors import UserError
from metaser.runtime.progress import QUIET
from metaser.training import learners, methods
from support import FMAML, REPOSITORY
from support.commands import metaser
from support.tasks import toy_task

ALGORITHM = REPOSITORY / "metaser" / "algorithms" / "README.md"
PAGES = (ALGORITHM, REPOSITORY / "README.md",
         *(page for folder in ("docs", "experiments") for page in sorted((REPOSITORY / folder).glob("**/*.md"))))  # fmt: skip


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
    code, line, _ = examples(ALGORITHM)
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
    assert list(settings.algorithms) == ["fomaml", "mine"]
    assert settings.algorithms["mine"].name == "multistep"


@pytest.mark.quick
def test_the_settings_of_the_page_belong_to_its_algorithm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, settings = examples(ALGORITHM)
    own = type("Own", (ran(code)["MultiStep"],), {"Settings": ran(settings)["MultiStepSettings"]})  # type: ignore[arg-type]
    monkeypatch.setitem(methods.LEARNERS, "multistep", own)
    assert methods.configured("multistep", last=2, steps=5).model_dump()["last"] == 2
    with pytest.raises(UserError, match=r"fomaml\.last: fomaml has no use for it \(multistep has\)"):
        methods.configured("fomaml", last=2)


@pytest.mark.quick
def test_like_and_grid_of_the_page_make_what_it_says(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    tree = yaml.safe_load((FMAML / "config.yaml").read_text(encoding="utf-8"))
    tree = {**tree, "protocols": {}, "variants": {}, "synthetic": {}, **yaml.safe_load(block)}
    tree["training"].pop("monitored")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    found = Study(tmp_path / "config.yaml", methods).experiment().algorithms
    rows = {f"rate-{rate}-{steps}": methods.configured("fomaml", inner_lr=rate, steps=steps, test_steps=5)
            for rate, steps in product((0.01, 0.1), (1, 5))}  # fmt: skip
    maml = methods.configured("maml", inner_lr=0.01, steps=1, test_steps=5)
    assert found == {"maml": maml, "protonet": methods.configured("protonet"), **rows}


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


@pytest.mark.quick
def test_every_file_and_function_of_the_tour_is_there() -> None:
    text = (REPOSITORY / "docs" / "tour.md").read_text(encoding="utf-8")
    steps = re.findall(r"`(metaser/[\w/]+)\.py(?::([\w.]+))?`", text)
    assert len(steps) > 20
    for file, name in steps:
        module = importlib.import_module(file.replace("/", "."))
        if name:
            attrgetter(name)(module)
