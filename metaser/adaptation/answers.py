"""What a model says of clips: as a table, as JSON, and as a plot over time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metaser.adaptation.sound import Span
from metaser.reporting.spreadsheet import guarded


@dataclass(frozen=True)
class Answers:
    """What a model says.

    Attributes:
        spans: Of what: whole clips, or the windows of long ones.
        classes: What it can say.
        probabilities: ``(spans, classes)``; NaN where it has no answer, and the span's note says why.
    """

    spans: list[Span]
    classes: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def failed(self) -> dict[str, str]:
        """Clips that could not be read, and why."""
        return {span.clip: span.note for span in self.spans if span.failed}

    def windows(self) -> pd.DataFrame:
        """A row per span: clip, start and end in s, label, every class's probability, and the note."""
        frame = pd.DataFrame(
            [(span.clip, span.start, span.end) for span in self.spans], columns=["clip", "start", "end"]
        )
        return self._answered(frame, self.probabilities, [span.note for span in self.spans])

    def table(self) -> pd.DataFrame:
        """A row per clip: clip, label, its probability, every class's, and the note; of a long clip the mean of its windows.

        A clip without an answer has an empty label, no probabilities, and a note why: ``too short``, ``silent``, or why it cannot
        be read. Windows without one do not count for their clip.
        """
        clips = pd.Series([span.clip for span in self.spans])
        means = pd.DataFrame(self.probabilities).groupby(clips, sort=False).mean()
        notes = pd.Series([span.note for span in self.spans], dtype=object).groupby(clips, sort=False)
        return self._answered(pd.DataFrame({"clip": means.index}), means.to_numpy(),
                              [each.iloc[0] if all(each) else "" for _, each in notes])  # fmt: skip

    def _answered(self, frame: pd.DataFrame, probabilities: np.ndarray, notes: Sequence[str]) -> pd.DataFrame:
        """The frame with label, its probability, every class's, and the notes."""
        answered = np.isfinite(probabilities).all(axis=1)
        best = np.where(answered[:, None], probabilities, 0).argmax(axis=1)
        frame["label"] = [self.classes[place] if known else "" for place, known in zip(best, answered, strict=True)]
        frame["probability"] = probabilities[np.arange(len(best)), best]
        frame[[f"p_{name}" for name in self.classes]] = probabilities
        return frame.assign(note=notes)

    def csv(self) -> str:
        """`table` as CSV, text guarded by `metaser.reporting.spreadsheet`."""
        return guarded(self.table()).to_csv(index=False, float_format="%.6f")

    def json(self) -> str:
        """A list with an object per clip: ``clip``, ``label``, ``probabilities``, ``note``, and ``windows`` where it has several.

        Probabilities are finite numbers; those of a clip without an answer are null, as is its label.
        """

        def said(row: Any) -> dict[str, Any]:
            shares = {name: round(float(row[f"p_{name}"]), 6) for name in self.classes}
            return {"label": row["label"] or None, "note": row["note"],
                    "probabilities": {name: share if math.isfinite(share) else None for name, share in shares.items()}}  # fmt: skip

        windows, found = self.windows(), []
        for row in self.table().to_dict("records"):
            found.append({"clip": row["clip"], **said(row)})
            own = windows[windows["clip"] == row["clip"]].to_dict("records")
            if len(own) > 1:
                found[-1]["windows"] = [{"start": one["start"], "end": one["end"], **said(one)} for one in own]
        return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)

    def timelines(self, folder: Path) -> list[Path]:
        """A plot per clip that has several windows: every class's probability against time; the files.

        Raises:
            UnwritableError: if one cannot be written.
        """
        from metaser.reporting.plots import COLOURS, plt, save  # matplotlib takes a second to import

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
