"""``sweep.yaml`` as typed, validated data: which cells, and where they are run.

experiment: experiments/fmaml        # relative to the file, or to the current folder
variants: [5shot, 10shot]            # what is not given is all that the experiment has
protocols: [strict]
algorithms: [fmaml, {slow: {name: fmaml, inner_lr: 0.01, steps: 5}}]
targets: [de, it]
seeds: [0, 1, 2, 3, 4]
set: [training.iterations=400]
executor: local
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from metaser.config import Count, Name, Number, Section, Seed, distinct, messages
from metaser.config.reading import read_yaml
from metaser.runtime.errors import UserError
from metaser.runtime.files import expanded


def entry(value: object) -> object:
    """An algorithm's name as settings that change nothing.

    Raises:
        ValueError: if it is a mapping of none, or of several.
    """
    if isinstance(value, dict) and len(value) != 1:
        raise ValueError("give a name, or one label with its settings, such as {slow: {inner_lr: 0.01}}")
    return {value: {}} if isinstance(value, str) else value


#: An algorithm of the experiment, ``fmaml``; or ``{label: settings}``, merged over the experiment's of that label.
Entry = Annotated[dict[Name, dict[str, Any]], BeforeValidator(entry)]


class Slurm(Section):
    """What a cell asks Slurm for.

    Attributes:
        partition: Where; Slurm's default when not given. So too ``account``, ``qos`` and ``constraint``.
        time_min: Minutes, 5 at least; a cell that needs more is put into the queue again 90 s before they are over, and
            goes on from its checkpoint.
        mem_gb: Memory, GB.
        cpus_per_task: Cores.
        gpus_per_node: GPUs.
        at_once: Cells that may run at the same time.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_min: Annotated[int, Field(ge=5)] = 60
    mem_gb: Annotated[Number, Field(gt=0)] = 4
    cpus_per_task: Count = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    at_once: Count = 256


class Sweep(Section):
    """A grid of cells: algorithm × target × variant × protocol × seed.

    Attributes:
        experiment: The experiment's folder.
        name: What the sweep's results folder is called; the file's own name when not given.
        variants: Of the experiment's; all when not given, as everywhere below.
        protocols: Of the experiment's.
        algorithms: Names of the experiment's algorithms, or ``{label: settings}`` of ones of the sweep's own.
        targets: Domains to leave out and test on.
        seeds: The experiment's when not given.
        set: ``key=value`` over the experiment's configuration, in every cell.
        checkpoint_every: Meta-iterations from one checkpoint to the next; 0: one a minute.
        executor: ``local``: processes on this machine; ``slurm``; ``debug``: one after another in this process.
        workers: For ``local``: processes; one per core when not given, or per GPU. The cores are divided among them.
        slurm: For ``slurm``.
    """

    experiment: Annotated[str, Field(min_length=1)]
    name: Name | None = None
    variants: tuple[str, ...] | None = Field(default=None, strict=False)
    protocols: tuple[str, ...] | None = Field(default=None, strict=False)
    algorithms: tuple[Entry, ...] | None = Field(default=None, strict=False)
    targets: tuple[str, ...] | None = Field(default=None, strict=False)
    seeds: tuple[Seed, ...] | None = Field(default=None, strict=False)
    set: tuple[str, ...] = Field(default=(), strict=False)
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    executor: Literal["local", "slurm", "debug"] = "local"
    workers: Count | None = None
    slurm: Slurm = Slurm()

    @model_validator(mode="after")
    def _distinct(self) -> Sweep:
        for key in ("variants", "protocols", "algorithms", "targets", "seeds"):
            values = self.labels if key == "algorithms" else getattr(self, key)
            if values == ():
                raise ValueError(
                    f"{key}: is empty, and so would be the grid; name one at least, or leave the key out for all"
                )
            distinct(key, values or ())
        return self

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The algorithms' labels; None for all of the experiment's."""
        return None if self.algorithms is None else tuple(label for entry in self.algorithms for label in entry)


def read(path: Path) -> Sweep:
    """A ``sweep.yaml``.

    Raises:
        UserError: naming the file, the key and what would be right.
    """
    try:
        return Sweep.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {messages.explain(error, Sweep)}") from None


def experiment_folder(sweep: Sweep, path: Path) -> Path:
    """The experiment's folder, looked for beside the file first and in the current folder second.

    Raises:
        UserError: if it is in neither.
    """
    given = Path(sweep.experiment)
    if sweep.experiment.startswith("~"):
        given = expanded(sweep.experiment, "experiment")
    for folder in (path.parent / given, given):
        if (folder / "run.py").is_file():
            return folder.resolve()
    raise UserError(f"experiment: no experiment {sweep.experiment} (a folder with run.py), neither beside that "
                    f"file nor in {Path.cwd()}; give a folder such as experiments/fmaml")  # fmt: skip
