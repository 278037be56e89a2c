"""The experiment as typed, validated data; `metaser.config.study` reads it from YAML. Unknown keys are refused."""

from __future__ import annotations

from pydantic import Field, SerializeAsAny, model_validator

from metaser.config.algorithm import Algorithm, Engine, Finetuned, Fit, Model, Pretrained
from metaser.config.base import MOST, Count, Name, Number, Part, Rate, Section, Seed, distinct
from metaser.config.data import Collection, CustomCorpus, Data, Features, Tasks
from metaser.config.outer import Evaluation, Split, Training

__all__ = [
    "MOST", "Algorithm", "Collection", "Count", "CustomCorpus", "Data", "Engine", "Evaluation", "Experiment", "Features",
    "Finetuned", "Fit", "Model", "Name", "Number", "Pretrained", "Rate", "Section", "Seed", "Split", "Tasks", "Training",
]  # fmt: skip


class Experiment(Section):
    """Everything that decides a run's numbers; ``data_root`` stands in for METASER_DATA.

    ``compare`` names the algorithms that take part, of those that there are; all of them when empty.
    """

    experiment: Name
    variant: Part = ""
    protocol: Part = ""
    data_root: str | None = None
    seeds: tuple[Seed, ...] = Field(min_length=1, strict=False)
    data: Data
    features: Features
    tasks: Tasks
    model: Model
    algorithms: dict[Name, SerializeAsAny[Algorithm]] = Field(min_length=1)
    compare: tuple[Name, ...] = Field(default=(), strict=False)
    training: Training
    engine: Engine = Engine()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        distinct("seeds", self.seeds)
        distinct("compare", self.compare)
        distinct("tasks.fixed and data.emotions", [*self.tasks.fixed, *self.data.emotions])
        for label, algorithm in self.algorithms.items():
            if algorithm.fixed_support and not (self.tasks.fixed and self.tasks.fixed_shots):
                raise ValueError(f"algorithms.{label}.fixed_support: needs tasks.fixed and tasks.fixed_shots")
        return self

    def of(self, label: str) -> Experiment:
        """The settings as one of the algorithms has them: its own features, network, order of labels and outer loop."""
        own = self.algorithms[label]
        training = {"outer_lr": own.outer_lr, "iterations": own.iterations}
        changes = {
            "features": own.features or self.features,
            "model": own.model or self.model,
            "tasks": self.tasks.model_copy(update={"order": own.order or self.tasks.order}),
            "training": self.training.model_copy(update={k: v for k, v in training.items() if v is not None}),
        }
        return self.model_copy(update=changes)
