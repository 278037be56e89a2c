"""Markdown as HTML: the one way by which tables come into the page, a run's ``table.md`` and the page's own alike.

Whatever the text holds, it becomes no markup, no picture and no link out of the page. Each table scrolls in a box of its own,
has the heading above it in its caption, and its first column as the heads of its rows. A cell that ends in a verdict has the
verdict's colour; a cell of a confusion matrix is the darker the more.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from metaser.reporting.page.compare import MATRIX, OTHER, SIGNS

#: How much lower a heading stands in the page than in its text, and the lowest there is.
LOWER, LOWEST = 2, 6

#: What is longer than a number with its interval and verdict may be broken into lines.
LONG = 40

#: A cell that is compared: our number, sign, verdict, and whether it is of another corpus than the published value.
VERDICT = re.compile(rf"(.*?) ?([{''.join(SIGNS.values())}]) ({'|'.join(SIGNS)})({re.escape(OTHER)})?")

Tokens = Sequence[Token]
Env = MutableMapping[str, Any]


class Renderer(RendererHTML):
    """Renders each kind of token by the method of its name.

    ``env`` has what the data are (``about``), whether links stay (``links``), the last heading, and whether a table is a confusion
    matrix.
    """

    def heading_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """A heading, lower than in its text."""
        env["heading"] = plain(tokens[idx + 1])
        return self.heading_close(tokens, idx, options, env)

    def heading_close(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """Its end."""
        tokens[idx].tag = f"h{min(LOWEST, int(tokens[idx].tag[1]) + LOWER)}"
        return self.renderToken(tokens, idx, options, env)

    def table_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """A table in its box, with its caption."""
        corner, heading, about = plain(tokens[idx + 4]), env.get("heading", ""), env["about"]
        caption = escape(" · ".join(filter(None, (corner, heading, "" if about in heading else about))))
        env["matrix"] = corner == MATRIX
        return (f'<div class="scroll" tabindex="0" role="group" aria-label="{caption}"><table>\n'
                f"<caption><span>{caption}</span></caption>\n")  # fmt: skip

    def table_close(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """Its end."""
        return "</table></div>\n"

    def th_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """The head of a column."""
        tokens[idx].attrs = {"scope": "col"}
        return self.renderToken(tokens, idx, options, env)

    def td_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """A cell with its colour, or the head of a row."""
        cell, content = tokens[idx], tokens[idx + 1]
        text, cell.attrs = plain(content), {}
        if tokens[idx - 1].type == "tr_open":
            cell.tag = "th"
            cell.attrSet("scope", "row")
        elif found := VERDICT.fullmatch(text):
            ours, sign, word, other = found.groups(default="")
            cell.attrSet("class", word.replace(" ", "-") + (" other" if other else ""))
            mark = f'<span class="mark"><span aria-hidden="true">{sign}</span> {word}{other}</span>'
            content.children = [Token("html_inline", "", 0, content=f"{escape(ours)} {mark}")]
        elif env["matrix"] and text.isdecimal():
            cell.attrSet("class", f"h{int(text) // 10}")
        elif len(text) > LONG:
            cell.attrSet("class", "text")
        return self.renderToken(tokens, idx, options, env)

    def td_close(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """Its end."""
        tokens[idx].tag = tokens[idx - 2].tag
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """No picture."""
        return ""

    def link_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: Env) -> str:
        """A link where they stay, else its text alone."""
        return self.renderToken(tokens, idx, options, env) if env["links"] else ""

    link_close = link_open


READER = MarkdownIt("commonmark", {"html": False}, renderer_cls=Renderer).enable("table")


def html(text: str, about: str = "", links: bool = False) -> Markup:
    """Markdown as HTML; a title on its first line is left out.

    Args:
        text: The Markdown.
        about: What the numbers are of, for the captions of the tables.
        links: Whether links stay; all of them then have to lead to places in the page.
    """
    env: dict[str, Any] = {"about": about, "links": links}
    tokens = READER.parse(text, env)
    if tokens and (tokens[0].type, tokens[0].tag) == ("heading_open", "h1"):
        tokens = tokens[3:]
    return Markup(READER.renderer.render(tokens, READER.options, env))


def plain(inline: Token) -> str:
    """The text of a heading or a cell."""
    return "".join(child.content for child in inline.children or ())


def title(text: str) -> str:
    """The title of a ``table.md``: its first line, without the sign; empty where it has none."""
    first = text.lstrip().partition("\n")[0]
    return first.removeprefix("# ").strip() if first.startswith("# ") else ""


def headline(text: str) -> str:
    """The first row that holds a number of the first table of a ``table.md``, each number with the head of its column."""
    rows: list[list[str]] = []
    tokens = READER.parse(text)
    for token, content in pairwise(tokens):
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(plain(content))
    for name, *cells in rows[1:]:
        if re.search(r"\d", "".join(cells)):
            said = ", ".join(f"{head} {cell}" for head, cell in zip(rows[0][1:], cells, strict=True))
            return f"{name}: {said}" if rows[0][0] in ("", "%") else f"{rows[0][0]}: {name}: {said}"
    return ""
