"""YAML text -> plain values, with the place of each of them for messages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from shrinkproof.errors import SpecError

Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings and positions in lists, from the top."""

Place = tuple[int, int]
"""Line and column, both counted from 1."""

MISSING: Final = object()
"""What `Document.at` returns where nothing is written."""

_MAP, _SEQ = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


class _Loader(yaml.SafeLoader):
    """The safe YAML 1.1 loader without its surprises.

    Dates stay text, ``<<`` is an ordinary key, and ``1e-3`` is a number as in YAML 1.2.
    """


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, rule) for tag, rule in rules if not tag.endswith((":timestamp", ":merge"))]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed file.

    Attributes:
        filename: name in messages.
        content: plain JSON values.
        values: path -> where the value starts.
        keys: path -> where its key starts.
    """

    filename: str
    content: Any
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def at(self, path: Path) -> Any:
        """Return the value at a path, or ``MISSING``."""
        value = self.content
        for element in path:
            is_item = isinstance(value, list) and element in range(len(value))
            if not is_item and not (isinstance(value, dict) and element in value):
                return MISSING
            value = value[element]
        return value

    def resolve(self, path: Path) -> Path:
        """Return a validation path without what validators insert: names of types and branches."""
        found: Path = ()
        for element in path:
            if self.at((*found, element)) is not MISSING:
                found = (*found, element)
        return found

    def place(self, path: Path, *, is_key: bool = False) -> Place:
        """Return line and column of a value or its key, else of what encloses it."""
        while path:
            place = (self.keys if is_key else self.values).get(path) or self.values.get(path)
            if place is not None:
                return place
            path, is_key = path[:-1], True
        return (1, 1)


def parse(text: str, filename: str) -> Document:
    """Return the document written in a YAML text.

    Raises:
        SpecError: the text is no YAML, or holds what a study file cannot hold: keys given twice,
            keys that are no text, aliases, or values that are no plain JSON values.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise SpecError([_syntax_problem(error, filename)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise SpecError(
            [f"{filename}:{line}:{column}: a character that YAML does not allow; remove it"]
        ) from error
    except RecursionError as error:
        raise SpecError([f"{filename}: is nested too deeply to be read"]) from error
    if node is None:
        raise SpecError([f"{filename}: is empty; write a study file with: shrinkproof init"])
    reader = _Reader(filename)
    content = reader.value(node, ())
    if reader.problems:
        raise SpecError(reader.problems)
    return Document(filename, content, reader.values, reader.keys)


def _syntax_problem(error: yaml.MarkedYAMLError, filename: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{filename}:{mark.line + 1}:{mark.column + 1}" if mark else filename
    context = f" {error.context}" if error.context else ""
    return f"{where}: is no valid YAML: {error.problem or 'unknown problem'}{context}"


class _Reader:
    """Walks a YAML tree, notes every place, and collects what is not allowed."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.values: dict[Path, Place] = {}
        self.keys: dict[Path, Place] = {}
        self.problems: list[str] = []
        self._seen: set[int] = set()
        self._scalars = _Loader("")

    def value(self, node: yaml.Node, path: Path) -> Any:
        """Return the plain value of a node and of everything below it."""
        self.values[path] = _place(node)
        if id(node) in self._seen:  # only an alias leads to a node a second time
            return self._refuse(node, path, "aliases are not allowed; write the value out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path)
            if not isinstance(key, str):
                written = getattr(key_node, "value", "")
                advice = f"; put it in quotes: '{written}'" if isinstance(written, str) else ""
                self._refuse(key_node, path, f"keys must be text, got {key!r}{advice}")
                continue
            below = (*path, key)
            if key in content:
                first = self.keys[below][0]
                self._refuse(key_node, below, f"is given twice (first in line {first})")
                continue
            self.keys[below] = _place(key_node)
            content[key] = self.value(value_node, below)
        return content

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self._refuse(node, path, f"{node.tag} is not allowed here")
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return self._refuse(node, path, f"{node.value!r} cannot be read as {node.tag}")
        if isinstance(value, float) and not math.isfinite(value):
            return self._refuse(node, path, f"must be a finite number, got {node.value}")
        if not isinstance(value, str | int | float | None):
            return self._refuse(
                node, path, f"must be text, a number, true or false, got {type(value).__name__}"
            )
        return value

    def _refuse(self, node: yaml.Node, path: Path, rule: str) -> None:
        line, column = _place(node)
        name = dotted(path)
        where = f"{self.filename}:{line}:{column}: "
        self.problems.append(where + (f"{name}: {rule}" if name else rule))


def _place(node: yaml.Node) -> Place:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


def dotted(path: Path) -> str:
    """Return the spelling of a path in messages: ``recipes.int8.steps.0``."""
    return ".".join(map(str, path))
