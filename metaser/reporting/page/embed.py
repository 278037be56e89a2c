"""What goes into the page itself instead of being fetched: plots as data URIs, ``table.md`` as HTML."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from metaser.runtime.errors import UserError

#: The step between the levels of each channel in an embedded plot, 0 and 255 among them: no level is off by more than half of it,
#: and the plot takes a quarter of the bytes.
STEP = 15
LEVELS = [round(level / STEP) * STEP for level in range(256)]

#: How much lower a heading of ``table.md`` stands in the page, and the lowest there is.
LOWER, LOWEST = 3, 6


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
        raise UserError(f"{path}: is no PNG that can be read; draw it anew, such as by `metaser render`") from None
    packed = io.BytesIO()
    few.save(packed, "WEBP", lossless=True, quality=50, method=4)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii"), *image.size


def on_white(image: Image.Image) -> Image.Image:
    """An image without transparency, as RGB."""
    whole = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def notes(text: str) -> Markup:
    """``table.md`` as HTML without its title: no raw HTML, no link, no picture; wide tables scroll by themselves."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    if tokens and tokens[0].type == "heading_open":
        tokens = tokens[3:]
    kept = []
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(LOWEST, int(token.tag[1]) + LOWER)}"
        elif token.type == "table_open":
            kept.append(html('<div class="scroll" tabindex="0" role="group" aria-label="table">'))
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        if token.children:
            token.children = [
                child for child in token.children if child.type not in ("image", "link_open", "link_close")
            ]
        kept.append(token)
        if token.type == "table_close":
            kept.append(html("</div>"))
    return Markup(reader.renderer.render(kept, reader.options, {}))


def html(text: str) -> Token:
    """Markup of our own among a document's tokens."""
    return Token("html_block", "", 0, content=text)


def title(text: str) -> str:
    """The title of a ``table.md``: its first line, without the sign; empty where it has none."""
    first = text.lstrip().partition("\n")[0]
    return first.removeprefix("# ").strip() if first.startswith("# ") else ""
