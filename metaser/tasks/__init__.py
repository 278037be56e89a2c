"""Few-shot tasks over the cached features, as `learn2learn.data.TaskDataset`s."""

from metaser.tasks.corpus import corpus_tasks
from metaser.tasks.dataset import SpeechTasks
from metaser.tasks.sampler import EpisodeSampler, Sampler
from metaser.tasks.shape import TaskShape
from metaser.tasks.splits import SplitSampler
from metaser.tasks.task import Task
from metaser.tasks.transforms import Episode, Transform

__all__ = ["Episode", "EpisodeSampler", "Sampler", "SpeechTasks", "SplitSampler", "Task", "TaskShape", "Transform",
           "corpus_tasks"]  # fmt: skip
