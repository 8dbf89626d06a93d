"""A CSV file as text cells with line numbers, and its columns under our names."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from shrinkproof.errors import DataError, UsageError

IGNORE: Final = "ignore"
"""What a mapping says of a column that shall be left out."""

_DELIMITERS: Final = ",;\t"
_GZIP: Final = b"\x1f\x8b"
"""What a gzip file begins with; no text in UTF-8 does."""

_WITH_POINT: Final = re.compile(r"[-+]?\d*\.\d+%?")

ALIASES: Final[Mapping[str, str]] = {
    "data_set": "dataset",
    "network": "model",
    "net": "model",
    "arch": "model",
    "architecture": "model",
    "recipe": "variant",
    "method": "variant",
    "technique": "variant",
    "candidate": "variant",
    "distortion": "corruption",
    "corruption_type": "corruption",
    "level": "severity",
    "severity_level": "severity",
    "err": "error",
    "error_rate": "error",
    "test_error": "error",
    "top1_error": "error",
    "top1_err": "error",
    "top_1_error": "error",
    "top_1_err": "error",
    "acc": "accuracy",
    "top1": "accuracy",
    "top1_accuracy": "accuracy",
    "top1_acc": "accuracy",
    "top_1": "accuracy",
    "top_1_accuracy": "accuracy",
    "top_1_acc": "accuracy",
    "test_accuracy": "accuracy",
}
"""Other words for our columns, after `normalized`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        line: line of the file in which it ends, counted from 1.
        cells: column -> text without surrounding blanks.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One CSV file.

    Attributes:
        name: name of the file, without its folder.
        sha256: of its bytes.
        found: the header as it stands in the file.
        columns: our names of the columns, in the same order; unknown ones keep their own.
        rows: everything below the header; blank lines are left out.
        has_comma: True where numbers have a decimal comma.
        percents: columns in which every cell that is not empty ends in a percent sign.
    """

    name: str
    sha256: str
    found: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    has_comma: bool = False
    percents: frozenset[str] = frozenset()

    def place(self, row: Row) -> str:
        """Return file and line, for messages."""
        return f"{self.name}:{row.line}"

    def number(self, row: Row, column: str) -> float | None:
        """Return the number in a cell, or None where it is empty.

        Raises:
            DataError: the cell holds something else.
        """
        text = row.cells[column]
        if not text:
            return None
        spelled = text.replace(",", ".") if self.has_comma else text
        if column in self.percents:
            spelled = spelled.removesuffix("%")
        try:
            value = float(spelled)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{self.place(row)}: {self.original(column)} must be a finite number, got "
                f"{text!r}; leave the cell empty where there is none"
            )
        return value

    def needed(self, row: Row, column: str) -> float:
        """Return the number in a cell that must not be empty.

        Raises:
            DataError: it is empty, or holds no number.
        """
        value = self.number(row, column)
        if value is None:
            raise DataError(
                f"{self.place(row)}: {self.original(column)} must be a number, got an empty cell; "
                "remove the row where there is none"
            )
        return value

    def is_numeric(self, column: str) -> bool:
        """Return whether every cell of a column that is not empty starts like a number."""
        texts = [row.cells[column] for row in self.rows if row.cells[column]]
        return bool(texts) and all(re.match(r"[-+]?[.,]?\d", text) for text in texts)

    def original(self, column: str) -> str:
        """Return how the file calls a column."""
        return self.found[self.columns.index(column)]


def read_sheet(path: Path, mapping: Mapping[str, str]) -> Sheet:
    """Return a CSV file, its columns under our names; a compressed one (gzip) as it is.

    The separator is what the header has most of: comma, semicolon or tab. Numbers may have a
    decimal comma where it is not the comma, and where no number has a decimal point.

    Args:
        path: the file.
        mapping: name of a column in the file -> our name.

    Raises:
        DataError: it cannot be read as a table; the message has the line.
    """
    try:
        content = path.read_bytes()
        is_packed = content.startswith(_GZIP)
        text = (gzip.decompress(content) if is_packed else content).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: must be a whole gzip file, got a damaged one ({error})"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: must be UTF-8 text, got other bytes ({error}); save it as CSV UTF-8"
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    lines = _lines(path.name, text, delimiter)
    has_point = any(_WITH_POINT.fullmatch(cell.strip()) for _, cells in lines for cell in cells)
    if not lines:
        raise DataError(f"{path.name}: must be a table with a header, got an empty file")
    header = tuple(cell.strip() for cell in lines[0][1])
    columns = _columns(path.name, header, mapping)
    rows = tuple(_row(path.name, line, cells, columns) for line, cells in lines[1:])
    if not rows:
        raise DataError(f"{path.name}: must have rows below its header, got none")
    return Sheet(
        path.name,
        hashlib.sha256(content).hexdigest(),
        header,
        columns,
        rows,
        has_comma=delimiter != "," and not has_point,
        percents=frozenset(column for column in columns if _is_percent(rows, column)),
    )


def _is_percent(rows: Sequence[Row], column: str) -> bool:
    texts = [row.cells[column] for row in rows if row.cells[column]]
    return bool(texts) and all(text.endswith("%") for text in texts)


def _lines(name: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        found = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: must be CSV, got {error}") from error
    return [(line, cells) for line, cells in found if any(cell.strip() for cell in cells)]


def _columns(name: str, header: Sequence[str], mapping: Mapping[str, str]) -> tuple[str, ...]:
    columns = [
        mapping.get(cell) or mapping.get(normalized(cell)) or _alias(cell) for cell in header
    ]
    for position, column in enumerate(columns):
        first = columns.index(column)
        if first != position and column != IGNORE:
            raise DataError(
                f"{name}:1: columns must differ, got {header[first]!r} and {header[position]!r} "
                f"for {column}; rename one, or leave it out with --mapping "
                f"'{header[position]}={IGNORE}'"
            )
    return tuple(columns)


def _alias(cell: str) -> str:
    """Return our name of a column, ``error_percent`` for ``Test error (percent)``."""
    plain = normalized(cell)
    head, _, unit = plain.rpartition("_")
    return ALIASES.get(plain) or (f"{ALIASES[head]}_{unit}" if head in ALIASES else plain)


def _row(name: str, line: int, cells: Sequence[str], columns: Sequence[str]) -> Row:
    if len(cells) != len(columns):
        raise DataError(
            f"{name}:{line}: must have {len(columns)} cells as the header, got {len(cells)}"
        )
    return Row(line, {c: text.strip() for c, text in zip(columns, cells, strict=True)})


def normalized(text: str) -> str:
    """Return a name in small letters, words joined by underscores."""
    return re.sub(r"[^a-z0-9.%]+", "_", text.strip().lower()).strip("_")


def read_mapping(texts: Sequence[str]) -> dict[str, str]:
    """Return the mapping of ``--mapping`` options: ``theirs=ours`` each, or a YAML file of them.

    Raises:
        UsageError: a text is neither, or a word is mapped twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        pairs = _pairs_of_file(Path(text)) if text.endswith((".yaml", ".yml")) else [_pair(text)]
        for theirs, ours in pairs:
            if found.setdefault(theirs, ours) != ours:
                raise UsageError(
                    f"--mapping: {theirs!r} must be mapped once, got {found[theirs]!r} and {ours!r}"
                )
    return found


def _pair(text: str) -> tuple[str, str]:
    theirs, equals, ours = (part.strip() for part in text.rpartition("="))
    if not (theirs and equals and ours):
        raise UsageError(
            f"--mapping: must be theirs=ours or a YAML file, got {text!r}; e.g. network=model"
        )
    return theirs, ours


def _pairs_of_file(path: Path) -> list[tuple[str, str]]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--mapping: {path} cannot be read ({error})") from error
    if not isinstance(content, dict) or not all(
        isinstance(item, str) for pair in content.items() for item in pair
    ):
        raise UsageError(
            f"--mapping: {path} must hold 'theirs: ours' lines of text, got something else"
        )
    return list(content.items())
