"""Markdown as HTML: the one way by which tables come into the page, a run's ``table.md`` and the page's own alike.

Whatever the text holds, it becomes no markup, no picture and no link out of the page. Each table scrolls in a box of its own,
has the heading above it in its caption, and its first column as the heads of its rows. A cell that ends in a verdict has the
verdict's colour; a cell of a confusion matrix is the darker the more.
"""

from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from metaser.reporting.page.compare import MATRIX, OTHER, SIGNS

READER = MarkdownIt("commonmark", {"html": False}).enable("table")

#: How much lower a heading stands in the page than in its text, and the lowest there is.
LOWER, LOWEST = 2, 6

#: What is longer than a number with its interval and verdict may be broken into lines.
LONG = 40

#: A cell that is compared: our number, sign, verdict, and whether it is of another corpus than the published value.
VERDICT = re.compile(rf"(.*?) ?([{''.join(SIGNS.values())}]) ({'|'.join(SIGNS)})({re.escape(OTHER)})?")


def html(text: str, about: str = "", links: bool = False) -> Markup:
    """Markdown as HTML; a title on its first line is left out.

    Args:
        text: The Markdown.
        about: What the numbers are of, for the captions of the tables.
        links: Whether links stay; all of them then have to lead to places in the page.
    """
    tokens, heading, corner = READER.parse(text), "", ""
    if tokens and (tokens[0].type, tokens[0].tag) == ("heading_open", "h1"):
        tokens = tokens[3:]
    for place, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(LOWEST, int(token.tag[1]) + LOWER)}"
            heading = plain(tokens[place + 1]) if token.type == "heading_open" else heading
        elif token.type == "table_open":
            corner = plain(tokens[place + 4])
            caption = escape(" · ".join(filter(None, (corner, heading, "" if about in heading else about))))
            tokens[place] = raw(f'<div class="scroll" tabindex="0" role="group" aria-label="{caption}"><table>\n'
                                f"<caption><span>{caption}</span></caption>\n")  # fmt: skip
        elif token.type == "table_close":
            tokens[place] = raw("</table></div>\n")
        elif token.type == "th_open":
            token.attrs = {"scope": "col"}
        elif token.type == "td_open" and tokens[place - 1].type == "tr_open":
            token.tag = tokens[place + 2].tag = "th"
            token.attrs = {"scope": "row"}
        elif token.type == "td_open":
            style = coloured(tokens[place + 1], corner)
            token.attrs = {"class": style} if style else {}
        elif token.children:
            unwanted = ("image",) if links else ("image", "link_open", "link_close")
            token.children = [child for child in token.children if child.type not in unwanted]
    return Markup(READER.renderer.render(tokens, READER.options, {}))


def coloured(cell: Token, corner: str) -> str:
    """The class of a cell of a table whose first head is ``corner``; a verdict's sign is hidden from screen readers."""
    text = plain(cell)
    if found := VERDICT.fullmatch(text):
        ours, sign, word, other = found.groups(default="")
        mark = f'<span class="mark"><span aria-hidden="true">{sign}</span> {word}{other}</span>'
        cell.children = [raw(f"{escape(ours)} {mark}", "html_inline")]
        return word.replace(" ", "-") + (" other" if other else "")
    if corner == MATRIX and text.isdecimal():
        return f"h{int(text) // 10}"
    return "text" if len(text) > LONG else ""


def raw(text: str, kind: str = "html_block") -> Token:
    """Markup of our own among a document's tokens."""
    return Token(kind, "", 0, content=text)


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
