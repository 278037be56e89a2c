"""Settings as YAML has them, before they are checked: files, ``key=value``, and one laid over another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from metaser.runtime.errors import UserError, first_line, shown

#: The deepest key that ``key=value`` may name; no setting is half as deep.
DEEPEST = 20


class Loader(yaml.SafeLoader):
    """YAML as settings need it: no alias, which can stand for more than memory holds, and no key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise ComposerError(None, None, f"the alias *{event.anchor} is not read; write it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is there twice, of which YAML would take the last."""
        mapping = super().construct_mapping(node, deep)
        seen = set()
        for key_node, _ in node.value if len(mapping) < len(node.value) else ():
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConstructorError(None, None, f"the key {shown(key)} is there twice", key_node.start_mark)
            seen.add(key)
        return mapping


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping.

    Raises:
        UserError: naming the file, and the line where it is not YAML.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "unreadable"
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: is not valid YAML{where} ({problem})") from None
    except Exception as error:  # whatever its constructors raise, such as at a date that no calendar has
        raise UserError(f"{path}: has a value that cannot be read ({first_line(error)})") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must be a mapping of settings, such as 'seeds: [0]'")
    return tree


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` over ``base``, key by key; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in overlay.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """``training.iterations=100`` as a nested mapping; the value is read as YAML.

    Raises:
        UserError: if there is no ``=`` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text[:80]}: give key=value, such as training.iterations=100")
    try:
        tree: Any = yaml.load(value, Loader)
    except Exception as error:  # as in `read_yaml`
        reason = getattr(error, "problem", None) or "unreadable"
        raise UserError(f"--set {text[:80]}: the value is not valid YAML ({reason})") from None
    parts = key.strip().split(".")
    if len(parts) > DEEPEST:
        raise UserError(f"--set {text[:80]}: no key is that deep; give key=value, such as training.iterations=100")
    for part in reversed(parts):
        tree = {part: tree}
    return tree
