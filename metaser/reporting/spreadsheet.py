"""CSV whose text no spreadsheet runs: an apostrophe goes before what would begin a formula there, as in ``'=1+1``.

Numbers, negative ones too, stay as they are. File names and the names of classes may come from anybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pandas as pd

#: What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame to write as CSV; the same frame where no text begins like a formula."""
    return changed(frame, runs, lambda text: f"'{text}")


def unguarded(frame: pd.DataFrame) -> pd.DataFrame:
    """What `guarded` was given."""
    return changed(frame, lambda text: text.startswith("'") and runs(text), lambda text: text[1:])


def runs(text: str) -> bool:
    """Whether a spreadsheet would run the text, or it could be taken for a guarded one."""
    if not text.lstrip("'").startswith(FORMULA):
        return False
    with contextlib.suppress(ValueError):
        float(text)
        return False
    return True


def changed(frame: pd.DataFrame, which: Callable[[str], bool], change: Callable[[str], str]) -> pd.DataFrame:
    """The frame with some of its text cells changed."""
    for name in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            cells = [change(cell) if isinstance(cell, str) and which(cell) else cell for cell in frame[name]]
            if any(new is not old for new, old in zip(cells, frame[name], strict=True)):
                frame = frame.assign(**{name: cells})
    return frame
