"""Speech tasks as a `learn2learn.data.TaskDataset`, each drawn by (seed, stream, iteration, task index) alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from metaser.runtime.learn2learn import l2l
from metaser.tasks.sampler import Sampler
from metaser.tasks.task import Task
from metaser.tasks.transforms import Episode, OrderedOutputs, Transform

#: Streams of tasks that must not repeat one another under one seed.
STREAMS = {"train": 0, "monitor": 1, "test": 2, "choice": 3}


class Utterances(Dataset[tuple[torch.Tensor, int]]):
    """The cached features as a dataset of (features, class number).

    Args:
        x: ``(utterances, coefficients, frames)``.
        emotions: One class name per utterance.
    """

    def __init__(self, x: torch.Tensor, emotions: list[str]) -> None:
        self.x = x
        self.names = sorted(set(emotions))
        number = {name: place for place, name in enumerate(self.names)}
        self.labels = [number[emotion] for emotion in emotions]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index], self.labels[index]

    def __len__(self) -> int:
        return len(self.labels)


class SpeechTasks(l2l.data.TaskDataset):
    """Tasks over a feature set, in learn2learn's form: ``tasks[i]``, ``tasks.sample()``, iteration.

    A task depends on nothing but (seed, stream, iteration, index): not on which tasks were drawn before, by which
    thread, process or machine. The clips of a task are indexed from one tensor.

    Args:
        x: ``(utterances, coefficients, frames)``; bytes (images) become numbers from 0 to 1.
        emotions: One class name per utterance.
        sampler: Draws the episodes; its rows are rows of ``x``.
        seed: The run's seed.
        stream: A key of `STREAMS`.
        num_tasks: As in learn2learn: the length, or -1 for an endless stream.
        order: Which outputs the tasks' classes take (`metaser.config.Tasks`): as they were drawn (``permuted``), in the sampler's
            order of emotions (``fixed``), or each its ``own``; the clips are the same.
        by_support: Each coefficient is brought to mean 0 and variance 1 over the clips and frames of the task's support set.
        speakers: Who speaks in each utterance.
        task_transforms: As in learn2learn: each gets a task's `metaser.tasks.transforms.Episode` and gives another one, after
            ``sampler.draw`` and what ``order`` asks for.
    """

    def __init__(
        self,
        x: torch.Tensor,
        emotions: list[str],
        sampler: Sampler,
        seed: int,
        stream: str = "train",
        num_tasks: int = -1,
        *,
        order: str = "permuted",
        by_support: bool = False,
        speakers: Sequence[str] = (),
        task_transforms: Sequence[Transform] = (),
    ) -> None:
        utterances = Utterances(x, emotions)
        numbers = dict(enumerate(utterances.labels))
        by_label: dict[int, list[int]] = {}
        for row, label in numbers.items():
            by_label.setdefault(label, []).append(row)
        self.changes: list[Transform] = [*task_transforms]
        if order != "permuted":
            self.changes.insert(0, OrderedOutputs(sampler.emotions, own=order == "own"))
        super().__init__(l2l.data.MetaDataset(utterances, by_label, numbers), [sampler.draw, *self.changes], num_tasks)
        self.x, self.sampler, self.seed, self.stream = x, sampler, seed, stream
        self.by_support, self.speakers = by_support, speakers
        self._next = itertools.count()

    def task(self, iteration: int, index: int) -> Task:
        """The task of a meta-iteration at a place in its meta-batch."""
        task: Task = self.batch(iteration, [index])[0]
        return task

    def batch(self, iteration: int, places: Sequence[int]) -> MetaBatch:
        """The tasks of a meta-iteration at some places of its meta-batch: all drawn, and gathered one by one when asked for."""
        return MetaBatch(self, [self.episode(iteration, index) for index in places])

    def episode(self, iteration: int, index: int) -> Episode:
        """Which clips such a task is of."""
        return self._describe([self.seed, STREAMS[self.stream], iteration, index])

    def _describe(self, key: list[int]) -> Episode:
        episode = self.sampler.draw(np.random.default_rng(key))
        for change in self.changes:
            episode = change(episode)
        return episode

    def get_task(self, task_description: Episode) -> Task:
        """Gathers an episode's clips."""
        episode = task_description
        support, query = torch.from_numpy(episode.support_index), torch.from_numpy(episode.query_index)
        support_x, query_x = (floating(self.x[rows]) for rows in (support, query))
        if self.by_support:
            support_x, query_x = by_support(support_x, query_x)
        support_speakers, query_speakers = (
            tuple(self.speakers[row] for row in rows) if self.speakers else ()
            for rows in (episode.support_index, episode.query_index)
        )
        return Task(
            support_x=support_x,
            support_y=torch.from_numpy(episode.support_y).to(self.x.device),
            query_x=query_x,
            query_y=torch.from_numpy(episode.query_y).to(self.x.device),
            classes=episode.classes,
            fixed=episode.fixed,
            domain=episode.domain,
            support_index=support,
            query_index=query,
            support_speakers=support_speakers,
            query_speakers=query_speakers,
        )

    def sample_task_description(self) -> Episode:
        """learn2learn's hook for an endless stream: the next episode of iteration 0."""
        return self._describe([self.seed, STREAMS[self.stream], 0, next(self._next)])

    def __getitem__(self, i: int) -> Task:
        if self.num_tasks == -1:
            task: Task = super().__getitem__(i)
            return task
        if not 0 <= i < self.num_tasks:
            raise IndexError(f"task {i} of {self.num_tasks}")
        return self.task(0, i)


class MetaBatch(l2l.data.TaskDataset):
    """Tasks that are drawn already, as a TaskDataset of their own; each is gathered when it is asked for.

    Args:
        tasks: What they are drawn from.
        episodes: One per task.
    """

    def __init__(self, tasks: SpeechTasks, episodes: Sequence[Episode]) -> None:
        super().__init__(tasks.dataset, num_tasks=len(episodes))
        self.sampled_descriptions = dict(enumerate(episodes))
        self.tasks = tasks

    def get_task(self, task_description: Episode) -> Task:
        """Gathers an episode's clips."""
        return self.tasks.get_task(task_description)


def by_support(support: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both, each coefficient brought to mean 0 and variance 1 over the clips and frames of the support set.

    Args:
        support: ``(clips, coefficients, frames)``.
        query: The same.
    """
    variance, mean = torch.var_mean(support, dim=(0, 2), keepdim=True, correction=0)
    deviation = torch.where(variance > 0, variance, 1).sqrt()
    return (support - mean) / deviation, (query - mean) / deviation


def floating(x: torch.Tensor) -> torch.Tensor:
    """Bytes as float32 between 0 and 1; what is no bytes, as it is."""
    return x.float() / 255 if x.dtype == torch.uint8 else x
