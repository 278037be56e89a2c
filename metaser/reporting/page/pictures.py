"""Plots that go into the page itself instead of being fetched."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path

from PIL import Image

from metaser.runtime.errors import UserError

#: The step between the levels of each channel in an embedded plot, 0 and 255 among them: no level is off by more than half of it,
#: and the plot takes a quarter of the bytes.
STEP = 15
LEVELS = [round(level / STEP) * STEP for level in range(256)]


def picture(path: Path) -> tuple[str, int, int]:
    """A PNG as a data URI, as WebP with fewer levels of colour and no other loss; its width and height in pixels.

    Raises:
        UserError: naming it, if it is no PNG.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(path.read_bytes()), formats=["PNG"])
            few = on_white(image).point(LEVELS * 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{path}: is no PNG that can be read; `metaser render` draws a run's plots again") from None
    packed = io.BytesIO()
    few.save(packed, "WEBP", lossless=True, quality=50, method=4)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii"), *image.size


def on_white(image: Image.Image) -> Image.Image:
    """An image without transparency, as RGB."""
    whole = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
