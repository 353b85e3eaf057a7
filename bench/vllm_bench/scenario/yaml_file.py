"""Reads YAML that may be anything, into values of bounded size; writes it.

A few lines of YAML can mean gigabytes (aliases of aliases), never end (an alias inside its own
anchor), or raise whatever Python's types raise. So the file, its values, their nesting and what
they are with all aliases written out have limits, far above what scenarios need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..small_file import UnreadableError, small_text

MOST_BYTES = 1 << 20  # of the file; a system prompt may be long
MOST_VALUES = 50_000  # a tool's schema has some hundred
MOST_LEVELS = 100
MOST_EXPANDED = 4 << 20  # characters, with aliases written out
MOST_BITS = 64  # of a whole number; JSON's readers take no more
PLAIN = (  # of the library's messages
    (r"found character '\\t' .*", "a tab: only blanks may indent"),
    (r"(mapping values are not allowed here)", r"\1: a text with a colon needs quotes"),
    (r"expected <block end>, but found .*", "not at the depth of the line above"),
    (r"could not find expected ':'", "a key without its colon, or another line too far left"),
    (r"(?:but )?(?:got|found) '<stream end>'", "but the file ends"),
    (r"found unexpected end of stream", "a quote that isn't closed"),
    (r"found undefined alias '(.*)'", r"*\1, but there is no &\1 before it"),
)
HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class YamlError(Exception):
    """YAML that can't be used; the text is one line: where, and what is wrong.

    The line itself isn't quoted: it may have a secret.
    """


def read_yaml(path: Path) -> Any:
    """Return what a YAML file says. Raises YamlError."""
    try:
        text = small_text(path, MOST_BYTES)
    except UnreadableError as e:
        raise YamlError(str(e)) from e
    return parse_yaml(text)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says. Raises YamlError."""
    try:
        # A SafeLoader.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise YamlError(f"not YAML: line {line}: the character U+{e.character:04X}") from e
    except yaml.YAMLError as e:
        raise YamlError(f"not YAML: {_problem(e)}") from e


def write_yaml(value: Any) -> str:
    """Return a value as YAML, its keys in their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=90)


def _problem(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark and problem:
        for pattern, words in PLAIN:
            problem = re.sub(pattern, words, problem)
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with limits, and with an error for equal keys instead of the last one."""

    levels = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.levels, self.values = self.levels + 1, self.values + 1
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.levels > MOST_LEVELS:
            raise YamlError(f"line {line}: nested more than {MOST_LEVELS} levels deep")
        if self.values > MOST_VALUES:
            raise YamlError(f"line {line}: more than {MOST_VALUES:,} values")
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        line = node.start_mark.line + 1
        try:
            found = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as e:
            kind = node.tag.rpartition(":")[2]
            raise YamlError(
                f"line {line}: not a possible {kind}: put it in quotes if it is a text"
            ) from e
        if isinstance(found, int) and found.bit_length() > MOST_BITS:
            raise YamlError(f"line {line}: a whole number of more than {MOST_BITS} bits")
        if isinstance(found, str) and HALF_A_PAIR.search(found):
            raise YamlError(f"line {line}: half of a surrogate pair, which no text has")
        return found


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return a node's characters and levels, with its aliases written out. Raises YamlError."""
    line = node.start_mark.line + 1
    if id(node) in known:
        if not known[id(node)][1]:
            raise YamlError(f"line {line}: an alias inside its own anchor")
        return known[id(node)]
    known[id(node)] = 0, 0  # until it is measured
    parts = [_measure(part, known) for part in _parts(node)]
    own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
    size, levels = 1 + own + sum(n for n, _ in parts), 1 + max((n for _, n in parts), default=0)
    if size > MOST_EXPANDED or levels > MOST_LEVELS:
        bound = f"{MOST_EXPANDED:,} characters or {MOST_LEVELS} levels"
        raise YamlError(f"line {line}: with its aliases written out it has more than {bound}")
    known[id(node)] = size, levels
    return size, levels


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlError(f"line {line}: a list or a mapping can't be a key")
        merge = key_node.tag == "tag:yaml.org,2002:merge"
        key = "<<" if merge else loader.construct_object(key_node)
        if key in seen:
            raise YamlError(f"line {line}: the key {_word(key)} is there twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _word(key: object) -> str:
    text = str(key)[:80]
    return text if text.isprintable() else repr(text)


def _refused(_: _Loader, node: yaml.Node) -> None:
    kind = node.tag.rpartition(":")[2]
    raise YamlError(f"line {node.start_mark.line + 1}: JSON has no {kind}: write a text or a list")


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
for unlike in ("binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{unlike}", _refused)
