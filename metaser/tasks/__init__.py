"""Few-shot tasks over the cached features, as `learn2learn.data.TaskDataset`s."""

from metaser.tasks.corpus import corpus_tasks
from metaser.tasks.dataset import SpeechTasks
from metaser.tasks.sampler import EpisodeSampler, Sampler, TaskShape
from metaser.tasks.splits import SplitSampler
from metaser.tasks.task import Task

__all__ = ["EpisodeSampler", "Sampler", "SpeechTasks", "SplitSampler", "Task", "TaskShape", "corpus_tasks"]
