"""Trains a model to be adapted later: on all speech of an experiment that is there, with nothing left out to test on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from metaser import config
from metaser.adaptation import file
from metaser.adaptation.file import Facts, Trained
from metaser.config.study import Study
from metaser.corpora.selection import corpus_of
from metaser.experiment import Run
from metaser.experiment.trial import TrialRun
from metaser.experiment.trials import JOIN, Trial
from metaser.features import recipe
from metaser.runtime.errors import UserError
from metaser.runtime.files import data_root, seal, writable_folder
from metaser.runtime.parallel import Workers
from metaser.runtime.progress import progress, say
from metaser.runtime.provenance import PACKAGES, commit
from metaser.training import methods
from metaser.training.checkpoint import Checkpoints
from metaser.training.methods import LEARNERS

#: Settings that train on every domain and leave none out to test on.
EVERYTHING = ("data.sources=[]", "data.targets=[]")


class Whole(Run):
    """A run that holds no speech out to test on: one domain is enough."""

    fewest = 1


def train(
    out: Path, experiment: Path, variant: str = "", protocol: str = "", label: str = "", corpora: Sequence[str] = (),
    overrides: Sequence[str] = (), root: Path | None = None,
) -> Facts:  # fmt: skip
    """Trains a model and writes its file; a training that was stopped goes on from its last checkpoint.

    Args:
        out: The model file to write.
        experiment: The experiment's folder, whose settings are used; one that is not below the current folder is looked for
            beside the package.
        variant: Of these; the first when not given.
        protocol: The same.
        label: The algorithm's; the first one when not given.
        corpora: To train on; when empty, those of the settings that are there, or the built-in one where none is.
        overrides: ``key=value`` settings over all others.
        root: As in `metaser.experiment.Run`.

    Raises:
        UserError: for any mistake in the arguments, the settings or the corpora, before anything is trained; if training
            diverges; or if the file cannot be written.
    """
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name the file to write, such as {out / 'model.safetensors'}")
    folder = writable_folder(out.absolute().parent, "the model file's folder")
    beside = Path(__file__).parents[2] / experiment
    experiment = beside if not experiment.exists() and beside.exists() else experiment
    study = Study(experiment / "config.yaml", methods)
    variant, protocol = variant or next(iter(study.variants), ""), protocol or study.protocols[0]
    chosen = (
        [f"data.collections={{chosen: {{corpora: [{', '.join(corpora)}]}}}}", "data.use=chosen", *EVERYTHING]
        if corpora
        else []
    )
    overrides = [*chosen, *overrides]
    draft = study.experiment(variant=variant, protocol=protocol, overrides=overrides)
    if draft.data.images:
        raise UserError(f"{experiment}: is about images, and a model file is for speech; give experiments/adapt")
    label = label or next(iter(draft.algorithms))
    kind = LEARNERS.get(draft.algorithms[label].name) if label in draft.algorithms else None
    if kind and not kind.savable:
        raise UserError(f"--algorithm {label}: what it learns cannot be kept in a model file; choose another")
    overrides = [*present(draft.data, data_root(root or draft.data_root)), *overrides, f"compare=[{label}]"]
    run = Whole(experiment, variant, overrides, folder, [protocol], root)
    sources = [name for name in run.first.data.sources or run.speech.domains if name in run.speech.domains]
    trial = Trial(protocol, label, "", run.first.seeds[0], JOIN.join(sources))
    settings = run.trials.of(trial)
    with Workers(1 if run.device.type == "cuda" else None) as workers:
        work = TrialRun(run.trials, trial, run.features(trial), workers)
        identity = seal(run.model_identity(trial))
        kept = folder / f".{out.name}.{identity[:12]}.partial"
        with progress(f"training {label}", settings.training.iterations) as update:
            work.train(lambda done: update(done, settings.training.iterations), Checkpoints(kept, work.rows))
    clips = run.speech.table["domain"].value_counts()
    trained = Trained(experiment=settings.experiment, variant=run.variant, protocol=trial.protocol, label=label, seed=trial.seed,
                      kind=run.speech.kind, clips={source: int(clips[source]) for source in sources}, commit=commit(experiment),
                      versions={name: metadata.version(name) for name in PACKAGES})  # fmt: skip
    facts = Facts(
        algorithm=settings.algorithms[label],
        engine=settings.engine,
        network=settings.model.name,
        features=settings.features,
        recipe=seal(asdict(recipe(settings.features.recipe, backend=settings.features.backend))),
        classes=(*work.samplers[""].emotions, *settings.tasks.fixed),
        fixed=len(settings.tasks.fixed),
        trained=trained,
    )
    file.write(out, facts, work.learner.state())
    shutil.rmtree(kept, ignore_errors=True)
    return facts


def present(settings: config.Data, root: Path | None) -> list[str]:
    """Settings that use all that is there of the first collection that has anything; none where the user named one.

    Says so where a data root was given and holds nothing, for a generated corpus is used then.
    """
    if settings.use != "auto":
        return []
    lacking: list[str] = []
    for name, collection in settings.collections.items():
        every = [corpus_of(entry) for entry in collection.corpora]
        found = [corpus for corpus in every if corpus.generated or corpus.locate(root)]
        if found:
            if root and all(corpus.generated for corpus in found):
                named = ", ".join(dict.fromkeys(lacking))
                say(f"{root}: holds none of {named} (`metaser data list` says where to get them)")
            return [f"data.use={name}", f"data.collections.{name}.at_least={len(found)}", *EVERYTHING]
        lacking += [corpus.name for corpus in every]
    return []  # `choose` says what is missing
