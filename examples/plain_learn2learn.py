"""learn2learn's own MAML on a corpus of speech; of metaser only the tasks.

python examples/plain_learn2learn.py [CORPUS]     (EMO-DB, RAVDESS, ... below METASER_DATA; without one a synthetic corpus)
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from metaser.runtime.learn2learn import l2l  # `import learn2learn as l2l` without the notice of gym
from metaser.tasks import corpus_tasks

EMOTIONS, SHOTS, TASKS = ["anger", "fear", "happiness", "sadness"], 5, 4

corpus = sys.argv[1] if len(sys.argv) > 1 else "synthetic"
tasks = corpus_tasks(corpus, EMOTIONS, shots=SHOTS, num_tasks=80, normalised="speaker", order="fixed")
coefficients, frames = tasks[0].support_x.shape[1:]
maml = l2l.algorithms.MAML(
    nn.Sequential(nn.Flatten(), nn.Linear(coefficients * frames, 64), nn.ReLU(), nn.Linear(64, 4)), lr=0.05
)
optimiser = torch.optim.Adam(maml.parameters(), lr=1e-3)
for iteration in range(20):
    optimiser.zero_grad()
    right = 0.0
    for place in range(TASKS):
        data, labels = tasks[TASKS * iteration + place]
        split = SHOTS * len(EMOTIONS)  # the support set comes first
        learner = maml.clone()
        for _ in range(3):
            learner.adapt(F.cross_entropy(learner(data[:split]), labels[:split]))
        answer = learner(data[split:])
        F.cross_entropy(answer, labels[split:]).div(TASKS).backward()
        right += (answer.argmax(dim=1) == labels[split:]).float().mean().item() / TASKS
    optimiser.step()
    print(f"iteration {iteration + 1}: {100 * right:.1f} % of query clips")
