"""learn2learn, imported without gym's end-of-life notice (learn2learn pulls gym in; nothing here uses it)."""

from __future__ import annotations

import contextlib
import warnings

with contextlib.suppress(ImportError):
    from gym_notices import notices

    notices.notices.clear()

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import learn2learn as l2l

# Its clone of a recurrent network looks at .grad of tensors that are no leaves, which harms nothing.
warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning)

__all__ = ["l2l"]
