"""What a model says of clips: as a table, as JSON, and as a plot over time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from metaser.adapting.sound import Span
from metaser.reporting.plots import COLOURS, save
from metaser.spreadsheet import guarded


@dataclass(frozen=True)
class Answers:
    """What a model says.

    Attributes:
        spans: Of what: whole clips, or the windows of long ones.
        classes: What it can say.
        probabilities: ``(spans, classes)``.
    """

    spans: list[Span]
    classes: tuple[str, ...]
    probabilities: np.ndarray

    def windows(self) -> pd.DataFrame:
        """A row per span: clip, start and end in s, label (None where the answer is not finite), every class's probability."""
        frame = pd.DataFrame({"clip": [span.clip for span in self.spans], "start": [span.start for span in self.spans],
                              "end": [span.end for span in self.spans]})  # fmt: skip
        return self._named(frame, self.probabilities)

    def table(self) -> pd.DataFrame:
        """A row per clip: clip, label, its probability, and every class's; of a long clip the mean of its windows."""
        frame = pd.DataFrame({"clip": [span.clip for span in self.spans]})
        means = pd.DataFrame(self.probabilities).groupby(frame["clip"], sort=False).mean()
        return self._named(pd.DataFrame({"clip": means.index}), means.to_numpy())

    def csv(self) -> str:
        """`table` as CSV, text guarded by `metaser.spreadsheet`."""
        return guarded(self.table()).to_csv(index=False, float_format="%.6f")

    def _named(self, frame: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
        known = np.isfinite(probabilities).all(axis=1)
        labels = [self.classes[place] if known[row] else None for row, place in enumerate(probabilities.argmax(axis=1))]
        return pd.concat([frame, pd.DataFrame({"label": pd.Series(labels, dtype=object),
                                               "probability": probabilities.max(axis=1, initial=0)}),
                          pd.DataFrame(probabilities, columns=[f"p_{name}" for name in self.classes])], axis=1)  # fmt: skip

    def json(self) -> str:
        """A list with an object per clip: ``clip``, ``label``, ``probabilities``, and ``windows`` where it has several.

        Where the model's answer is not finite, its numbers and the label are null.
        """
        spans = self.windows()
        found = []
        for row in self.table().to_dict("records"):
            own = spans[spans["clip"] == row["clip"]]
            entry = {"clip": row["clip"], "label": row["label"], "probabilities": self._numbers(row)}
            if len(own) > 1:
                entry["windows"] = [{"start": one["start"], "end": one["end"], "label": one["label"],
                                     "probabilities": self._numbers(one)} for one in own.to_dict("records")]  # fmt: skip
            found.append(entry)
        return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)

    def _numbers(self, row: dict) -> dict[str, float | None]:
        found = {name: round(float(row[f"p_{name}"]), 6) for name in self.classes}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def timelines(self, folder: Path) -> list[Path]:
        """A plot per clip that has several windows: every class's probability against time; the files.

        Raises:
            UnwritableError: if one cannot be written.
        """
        frame, written = self.windows(), []
        for number, (clip, rows) in enumerate(frame.groupby("clip", sort=False)):
            if len(rows) < 2:
                continue
            figure, axis = plt.subplots(figsize=(9, 3))
            middle = (rows["start"] + rows["end"]) / 2
            for place, name in enumerate(self.classes):
                axis.plot(middle, rows[f"p_{name}"], label=name, color=COLOURS[place % len(COLOURS)],
                          linestyle=("-", "--", ":")[place // len(COLOURS) % 3], marker=".")  # fmt: skip
            axis.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1), title=Path(str(clip)).name)
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
            written.append(folder / f"{number:03}-{Path(str(clip)).stem}.png")
            save(figure, written[-1])
        return written
