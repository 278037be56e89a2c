"""One corpus as a TaskDataset, in a line: for scripts that use learn2learn and nothing else of metaser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaser.runtime.errors import UserError
from metaser.runtime.files import data_root
from metaser.tasks.dataset import SpeechTasks
from metaser.tasks.sampler import EpisodeSampler
from metaser.tasks.shape import TaskShape
from metaser.tasks.transforms import Transform


def corpus_tasks(
    corpus: str | Path,
    emotions: Sequence[str],
    *,
    shots: int = 5,
    queries: int = 5,
    ways: int | None = None,
    features: str = "fmaml",
    normalised: str = "none",
    speakers: str = "mixed",
    order: str = "permuted",
    num_tasks: int = -1,
    seed: int = 0,
    root: str | Path | None = None,
    task_transforms: Sequence[Transform] = (),
) -> SpeechTasks:
    """N-way K-shot tasks of one corpus, each within one of its languages.

    Args:
        corpus: Its name, such as ``"emodb"`` (or ``"synthetic"``, which is always there); or a folder of your own,
            ``speaker?/emotion/*.wav``.
        emotions: The classes.
        shots: K, support clips per class.
        queries: Query clips per class.
        ways: N of the classes go into a task; all of them when not given.
        features: A recipe of `metaser.features`.
        normalised: As `metaser.config.Features.normalise`.
        speakers: ``disjoint``: support and query share none; ``mixed``.
        order: As `metaser.config.Tasks.order`.
        num_tasks: As in learn2learn: how many, or -1 for an endless stream.
        seed: Decides the tasks.
        root: The folder that holds the corpora; METASER_DATA when not given.
        task_transforms: As in `SpeechTasks`.

    Returns:
        A `learn2learn.data.TaskDataset`; ``data, labels = tasks[0]`` has the support set first.

    Raises:
        UserError: if the corpus is not there, or has too few clips.
    """
    from metaser.corpora import locate  # here, not above: who has tasks need not have corpora
    from metaser.corpora.base import Corpus
    from metaser.corpora.folder import Folder
    from metaser.features import extract, normalise, recipe

    here = data_root(root)
    if isinstance(corpus, Path):
        found: Corpus = Folder(corpus.name, corpus.absolute(), "own")
        folder = corpus.absolute()
    else:
        found, folder = locate(corpus, here)
    table = found.table(folder)
    table = table[table["emotion"].isin(emotions)].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{found.name}: no clip is of {', '.join(emotions)}")
    table = table.assign(domain=table["language"])
    chosen = normalise(extract(table, recipe(features)), normalised)
    shape = TaskShape(ways or len(emotions), shots, queries, queries, order=order, speakers=speakers)
    sampler = EpisodeSampler(table, sorted(set(table["domain"])), emotions, shape, "train")
    return SpeechTasks(chosen.x, list(table["emotion"]), sampler, seed, num_tasks=num_tasks, order=order,
                       speakers=list(table["speaker"]), task_transforms=task_transforms)  # fmt: skip
