"""A trained model: adapted to a few labelled clips, then asked about others.

An adapted model is the trained one with its support set: every answer adapts to these clips as a test task of an experiment
does, so that what an experiment measures is what a user gets. Clips are brought to z-scores by the support set where the
model was trained on any z-scores but an utterance's own, and are answered each for itself, where the learner is inductive: a
Gaussian with ``unlabelled`` clips answers those that are asked at once together, as do metric learners with batch normalisation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metaser import models
from metaser.adaptation import file
from metaser.adaptation.answers import Answers
from metaser.adaptation.estimate import Estimate, estimate
from metaser.adaptation.file import SUPPORT, Facts
from metaser.adaptation.sound import SILENT, Sound, sound
from metaser.adaptation.support import Support
from metaser.algorithms.base import Learner
from metaser.corpora.folder import Folder, clips_below, decodable
from metaser.features import recipe
from metaser.features.normalisation import normalise_by
from metaser.runtime.errors import UserError, first_line, nearest
from metaser.runtime.parallel import single_thread
from metaser.runtime.progress import say
from metaser.tasks import Task
from metaser.tasks.dataset import by_support
from metaser.training import learners, methods

#: Clips of a speaker that can lend a mean and a deviation.
LEAST = 4

#: The class of clips without speech.
SILENCE = "silence"

#: The end of the names of what has one row per class.
HEAD = (".head.weight", ".head.bias")


class Model:
    """A trained model, adapted or not yet; see the module.

    Args:
        facts: What it is.
        tensors: What it has learned, as `metaser.algorithms.base.Learner.state` gives it.
        support: What it is adapted to.

    Raises:
        UserError: if facts and tensors do not belong together.
    """

    def __init__(self, facts: Facts, tensors: Mapping[str, torch.Tensor], support: Support | None = None) -> None:
        self.facts, self.tensors, self.support = facts, dict(tensors), support
        self.recipe = recipe(facts.features.recipe, backend=facts.features.backend)
        classes = facts.answers or facts.classes
        if support and not support.fits(self.recipe.shape, len(classes) - facts.also):
            raise UserError("the clips that the model is adapted to are not whole")
        try:
            self.learner = self._learner(classes)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:  # the last where a network cannot be built so
            named = f"{facts.network} and {facts.algorithm.name}"
            raise UserError(f"the model's tensors are not those of {named} ({first_line(error)})") from None

    def _learner(self, classes: Sequence[str]) -> Learner:
        """The learner, with one output per class."""
        # Batch normalisation by the clips that it is adapted to, for one clip alone has no statistics.
        own = self.facts.algorithm
        if "statistics" in type(own).model_fields:
            own = own.model_copy(update={"statistics": "support"})
        networks = [models.build(self.facts.network, self.recipe.shape, len(classes), 0)]
        if own.ensemble * sum(weight.nbytes for weight in networks[0].parameters()) > file.LARGEST:
            raise ValueError(f"{own.ensemble} such networks are larger than a model file")
        networks += [copy.deepcopy(networks[0]) for _ in range(own.ensemble - 1)]
        engine = self.facts.engine.model_copy(update={"layout": "task", "device": "cpu"})
        learner = learners.build(own, networks, engine)
        if not learner.savable:
            raise ValueError(f"{own.name} keeps none")
        learner.restore(with_classes(self.tensors, self.facts.classes, classes))
        return learner

    def adapt(
        self, clips: str | Path, also: Sequence[str] = (), emotions: Mapping[str, str] | None = None, steps: int | None = None
    ) -> Model:  # fmt: skip
        """The same model, adapted to labelled clips; clips that it was adapted to before are forgotten.

        Args:
            clips: A folder ``emotion/*.wav`` or ``speaker/emotion/*.wav``, or a CSV file (`metaser.corpora.folder.Folder`); any
                number of classes from two on, of one clip or more each. A class that the model was trained on keeps its
                outputs; others begin as the mean of all.
            also: Classes that it was trained on and is to answer, too, though no clip shows them.
            emotions: Names in the folder → names to use.
            steps: Inner steps, where it has any; as in its training's tests when not given.

        Raises:
            UserError: naming the clip that cannot be read, or the class that cannot be.
        """
        table = Folder("clips", Path(clips), "und", emotions).table(Path(clips))
        found = sorted(set(table["emotion"]))
        also = tuple(also) or self._kept_fixed(found)
        for name in also:
            if name not in self.facts.classes:
                raise UserError(f"--also {name}: the model was not trained on it; {nearest(name, self.facts.classes)}")
            if name in found:
                raise UserError(f"--also {name}: {clips} has clips of it; leave it out here")
        if len(found) + len(also) < 2:
            raise UserError(f"{clips}: holds {found[0]} alone; give clips of two classes or more")
        lost = [name for name in self.facts.answers or self.facts.classes if name not in (*found, *also)]
        if lost:
            say(f"no longer answered, for {clips} has no clip of them: {', '.join(lost)}; --also NAME (in Python also=[NAME]) "
                "keeps one that the model was trained on")  # fmt: skip
        known = [name for name in self.facts.classes if name in found]
        answers = (*known, *(name for name in found if name not in known), *also)
        y = torch.tensor([answers.index(name) for name in table["emotion"]])
        speakers = pd.factorize(table["speaker"].replace("", None))[0]
        own = self.facts.algorithm
        if steps is not None:
            if "test_steps" not in type(own).model_fields:
                raise UserError(f"--steps: {own.name} adapts in no inner steps; leave it out")
            own = own.model_copy(update={"test_steps": steps})
        facts = file.checked(self.facts.model_copy(update={"answers": answers, "also": len(also), "algorithm": own}))
        heard, _ = sound(list(table["path"]), self.recipe)
        return Model(facts, self.tensors, Support(heard, y, torch.from_numpy(speakers.astype(np.int64))))

    def _kept_fixed(self, found: Sequence[str]) -> tuple[str, ...]:
        """The fixed classes of F-MAML, which are known for good, so far as no clip shows them.

        Raises:
            UserError: if all are shown.
        """
        if not methods.kind(self.facts.algorithm.name).keeps_fixed:
            return ()
        fixed = self.facts.classes[len(self.facts.classes) - self.facts.fixed :]
        left = tuple(name for name in fixed if name not in found)
        if not left:
            raise UserError(f"F-MAML knows {' and '.join(fixed)} without clips; leave those of {fixed[-1]} out")
        return left

    def predict(
        self, clips: str | Path | Sequence[str | Path], window: float = 0.0, hop: float = 0.0, together: bool = False
    ) -> Answers:
        """What it says of clips.

        A clip that cannot be read, is shorter than 0.2 s, or is silent (nowhere above -65 dB of full scale) gets no label, and a
        note instead. A silent one is answered where the model knows the class ``silence``.

        Args:
            clips: An audio file, a folder of them, or several such.
            window: Longer clips are cut into windows of so many seconds, and answered by the mean of their windows'
                probabilities; 0 to take every clip as a whole.
            hop: Seconds from one window to the next; half a window when 0.
            together: The clips are all of one speaker, and are brought to z-scores by one another instead of by those that the
                model is adapted to: better for a new speaker, from a dozen clips of several emotions on. Transductive.

        Raises:
            UserError: naming a folder that holds no clip; or if the model is not adapted yet.
        """
        if self.support is None:
            raise UserError("the model is not adapted to any clips yet; `metaser adapt` does that")
        asked, spans = sound(listed(clips), self.recipe, window, hop, strict=False)
        told = {SILENT} if SILENCE in self.facts.answers else set()
        rows = np.array([row for row, span in enumerate(spans) if not span.note or span.note in told], dtype=int)
        probabilities = np.full((len(spans), len(self.facts.answers)), np.nan)
        if len(rows):
            with single_thread():
                probabilities[rows] = self.probabilities(asked.part(rows), self.support, together)
        return Answers(spans, self.facts.answers, probabilities)

    def probabilities(self, asked: Sound, support: Support, together: bool = False) -> np.ndarray:
        """``(clips, answers)`` after adaptation to a support set."""
        task = self.task(asked, support, together)
        try:
            return self.learner.predict(task).double().softmax(dim=1).cpu().numpy()
        except (ValueError, RuntimeError) as error:  # of a file that was made up
            raise UserError(f"the model cannot answer ({str(error).splitlines()[0][:200]})") from None

    def task(self, asked: Sound, support: Support, together: bool = False) -> Task:
        """The question as a task, whose query labels mean nothing."""
        how, known = self.facts.features.normalise, len(support.y)
        support_x, x = support.sound.x, asked.x
        if how == "support":
            support_x, x = by_support(support_x, x)[0], by_support(x if together else support_x, x)[1]
        elif how != "none":
            groups = lenders(how, support.speakers.numpy(), len(x), together)
            lengths = torch.cat([support.sound.lengths, asked.lengths])
            both = normalise_by(torch.cat([support_x, x]), lengths, groups)
            support_x, x = both[:known], both[known:]
        nothing = torch.zeros(len(x), dtype=torch.int64)
        who = tuple(map(str, support.speakers.tolist()))
        return Task(support_x, support.y, x, nothing, self.facts.answers, self.facts.also, "", torch.arange(known),
                    torch.arange(len(x)), who)  # fmt: skip

    def estimate(self) -> dict[str, Estimate]:
        """How often it would be right on other clips like those that it is adapted to; see `metaser.adaptation.estimate`."""
        assert self.support is not None, "asked of an adapted model only"
        with single_thread():
            return estimate(self.support, self.probabilities)

    def save(self, path: str | Path) -> None:
        """Writes a model file (`metaser.adaptation.file`); speakers' names are not kept.

        Raises:
            UnwritableError: if it cannot be written.
        """
        own = self.support
        kept = dict(zip(SUPPORT, (own.sound.x, own.sound.lengths, own.y, own.speakers), strict=True)) if own else {}
        file.write(Path(path), self.facts, self.tensors | kept)


def load(path: str | Path) -> Model:
    """The model of a model file.

    Raises:
        UserError: naming the file, if it is no whole model file.
    """
    facts, tensors = file.read(Path(path))
    own = [tensors.pop(name) for name in SUPPORT if name in tensors]
    try:
        if len(own) != (len(SUPPORT) if facts.answers else 0):
            raise UserError("the clips that the model is adapted to are not whole")
        return Model(facts, tensors, Support(Sound(*own[:2]), *own[2:]) if own else None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def adapt(model: str | Path, clips: str | Path, also: Sequence[str] = (), steps: int | None = None) -> Model:
    """The model of a model file, adapted to labelled clips; see `Model.adapt`."""
    return load(model).adapt(clips, also, steps=steps)


def listed(clips: str | Path | Sequence[str | Path]) -> list[str]:
    """The files that are named, and those in the folders that are named, each once.

    Raises:
        UserError: naming a folder that holds none.
    """
    found: list[str] = []
    for name in [clips] if isinstance(clips, str | Path) else clips:
        if not Path(name).is_dir():
            found.append(str(name))
            continue
        below = clips_below(Path(name))
        if not below:
            raise UserError(f"{name}: holds no clip ({', '.join(decodable())})")
        found += [str(Path(name) / one) for one in below]
    return list(dict.fromkeys(found))


def lenders(how: str, speakers: np.ndarray, asked: int, together: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whose statistics bring which clips to z-scores (`metaser.features.normalisation.normalise_by`).

    Args:
        how: ``utterance``, ``speaker`` or ``language``.
        speakers: ``(clips,)`` of the support set.
        asked: Clips that are asked; they come after these.
        together: They are measured by one another.
    """
    own, new = np.arange(len(speakers)), np.arange(len(speakers), len(speakers) + asked)
    if how == "utterance":
        yield from ((row[None], row[None]) for row in np.concatenate([own, new]))
        return
    for who in np.unique(speakers):
        rows = own[speakers == who]
        yield rows, rows if how == "speaker" and who >= 0 and len(rows) >= LEAST else own
    yield new, new if together else own


def with_classes(
    tensors: Mapping[str, torch.Tensor], before: Sequence[str], classes: Sequence[str]
) -> dict[str, torch.Tensor]:
    """A network's tensors with a head for other classes: the rows of those that it had, the mean of all rows for new ones."""
    places = [before.index(name) if name in before else None for name in classes]
    return {
        name: torch.stack([tensor.mean(dim=0) if place is None else tensor[place] for place in places])
        if name.endswith(HEAD) and tensor.dim() and len(tensor) == len(before)
        else tensor
        for name, tensor in tensors.items()
    }
