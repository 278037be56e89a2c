"""learn2learn without the parts that are slow to import and that nothing here needs at once.

`import learn2learn` imports gym, which prints its end-of-life notice, and torchvision. Imported from here, its modules
`gym`, `text` and `vision` load on first use; everything else is as after a plain import.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import warnings

LATER = ("gym", "text", "vision")


def _import_lightly() -> None:
    """Import learn2learn with empty modules in place of LATER's, then leave these to its `__getattr__`."""
    stand_ins = {f"learn2learn.{name}": types.ModuleType(name) for name in LATER}
    sys.modules.update(stand_ins)
    try:
        learn2learn = importlib.import_module("learn2learn")
    finally:
        for name in stand_ins:
            del sys.modules[name]

    def load(name: str) -> types.ModuleType:
        if name not in LATER:
            raise AttributeError(f"module 'learn2learn' has no attribute {name!r}")
        return importlib.import_module(f"learn2learn.{name}")

    for name in LATER:
        delattr(learn2learn, name)
    learn2learn.__getattr__ = load  # type: ignore[method-assign]


with contextlib.suppress(ImportError):
    from gym_notices import notices

    notices.notices.clear()

if "learn2learn" not in sys.modules:
    _import_lightly()

import learn2learn as l2l  # noqa: E402

# Its clone of a recurrent network looks at .grad of tensors that are no leaves, which harms nothing.
warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning)

__all__ = ["l2l"]
