"""metaser: few-shot, meta-learned speech emotion recognition on learn2learn.

`metaser.train`, `metaser.load` and `metaser.adapt` are those of `metaser.adaptation`, imported when they are first used.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["adapt", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from metaser import adaptation

        return getattr(adaptation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
