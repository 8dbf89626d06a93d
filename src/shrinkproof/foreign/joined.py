"""Several tables as one: which candidates there are, and which number of each comes from where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.errors import DataError, UsageError
from shrinkproof.foreign.entries import (
    ACCURACY,
    Entry,
    Layout,
    Scale,
    entries_of,
    ignored_columns,
    layout_of,
)
from shrinkproof.foreign.sheet import IGNORE, Sheet, normalized, read_sheet
from shrinkproof.foreign.units import FOREIGN, meaning_of
from shrinkproof.records import CLEAN, Condition

_COLUMNS: Final = (
    *("dataset", "model", "variant", "split", "group", "condition", "corruption", "severity"),
    *("error", "accuracy", "metric", "value", "low", "high", "count", "unit"),
)

_NAMES: Final = ("dataset", "model", "variant")

_ROUNDING: Final = 0.000051
"""Accuracies of two tables that differ by more are no roundings of one number."""

ORIGINAL: Final = "original"
"""How tables call the uncompressed network; ``baseline`` serves as well."""

Name = tuple[str, str]
"""Network, with its data set, and recipe, as in the run."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables, read.

    Attributes:
        sheets: the files.
        layouts: of each of them.
        entries: their numbers.
        notes: what a reader must know.
    """

    sheets: tuple[Sheet, ...]
    layouts: tuple[Layout, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


@dataclass(eq=False)
class Known:
    """The numbers of one candidate by cell: split, condition and metric -> entry."""

    scores: dict[tuple[str, Condition, str], Entry] = field(default_factory=dict)
    alone: dict[str, Entry] = field(default_factory=dict)


def read_tables(
    files: Sequence[Path], mapping: Mapping[str, str], scale: Scale, dataset: str
) -> Tables:
    """Return the numbers of all tables, each file under one mapping.

    Raises:
        DataError: a file cannot be understood; the message has the line.
        UsageError: the mapping is wrong.
    """
    columns, words = _split_mapping(mapping)
    sheets = tuple(read_sheet(path, columns) for path in files)
    _check_used(columns, sheets)
    layouts = tuple(layout_of(sheet) for sheet in sheets)
    entries: list[Entry] = []
    notes = []
    for sheet, layout in zip(sheets, layouts, strict=True):
        entries += entries_of(sheet, layout, scale, words)
        left = ignored_columns(sheet, layout)
        if left:
            notes.append(f"{sheet.name}: {', '.join(left)} not read")
    spelled, renamed = _spelled_alike(entries)
    joined = tuple(_of_dataset(spelled, dataset))
    return Tables(sheets, layouts, joined, (*notes, *renamed))


def _split_mapping(mapping: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is said about columns, and about names of corruptions.

    Raises:
        UsageError: a word of ours is none.
    """
    columns, words = {}, {}
    for theirs, ours in mapping.items():
        if ours in CORRUPTIONS or ours == CLEAN.corruption:
            words[theirs] = ours
        elif ours in (*_COLUMNS, IGNORE):
            columns[theirs] = ours
        elif "." in ours:
            meaning_of(ours)
            columns[theirs] = ours
        else:
            raise UsageError(
                f"--mapping {theirs}={ours}: must name one of our columns "
                f"({', '.join(_COLUMNS)}), a metric, a corruption, or {IGNORE!r}; got {ours!r}"
            )
    return columns, words


def _check_used(columns: Mapping[str, str], sheets: Sequence[Sheet]) -> None:
    """Refuse a mapping of a column that no file has: it is misspelled."""
    found = {cell for sheet in sheets for cell in sheet.found}
    found |= {normalized(cell) for cell in found}
    for theirs in columns:
        if theirs not in found:
            headers = "; ".join(f"{sheet.name}: {', '.join(sheet.found)}" for sheet in sheets)
            raise UsageError(f"--mapping: {theirs!r} must be a column, got none; found {headers}")


def _spelled_alike(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Return rows whose names are spelled as in the first table that has them, and what changed.

    One table says ``ResNet-50`` and the other ``resnet50``. Names of one table stay apart.
    """
    spellings: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for entry in entries:
        for kind in _NAMES:
            tables = spellings.setdefault(_folded(entry, kind), {})
            tables.setdefault(entry.file, {})[getattr(entry, kind)] = None
    found = []
    notes: dict[str, None] = {}
    for entry in entries:
        names = {}
        for kind in _NAMES:
            tables = spellings[_folded(entry, kind)]
            file, first = next(iter(tables.items()))
            text, known = getattr(entry, kind), next(iter(first))
            is_clear = len(first) == len(tables[entry.file]) == 1
            names[kind] = known if is_clear else text
            if names[kind] != text:
                notes[f"{kind} {text!r} of {entry.file} is taken for {known!r} of {file}"] = None
        found.append(
            replace(entry, dataset=names["dataset"], model=names["model"], variant=names["variant"])
        )
    return found, [*notes]


def _folded(entry: Entry, kind: str) -> tuple[str, str]:
    return kind, re.sub(r"[\s_-]+", "", getattr(entry, kind).lower())


def _of_dataset(entries: Sequence[Entry], dataset: str) -> list[Entry]:
    """Return the rows of one data set, or of all; a table without that column joins the only one.

    Raises:
        DataError: there is no such data set, or a table does not say which of several it is about.
    """
    names = list(dict.fromkeys(entry.dataset for entry in entries if entry.dataset))
    if len(names) > 1 and any(not entry.dataset for entry in entries):
        place = next(entry.place for entry in entries if not entry.dataset)
        raise DataError(
            f"{place}: must say its data set in a column dataset, because there are "
            f"{', '.join(names)}"
        )
    filled = [replace(entry, dataset=entry.dataset or "".join(names)) for entry in entries]
    found = [entry for entry in filled if dataset in ("", entry.dataset)]
    if not found:
        raise DataError(f"--dataset: must be one of {', '.join(names)}, got {dataset!r}")
    return found


def names_of(entries: Sequence[Entry], baseline: str) -> dict[tuple[str, str, str], Name]:
    """Return the names of network and recipe in the run, baselines first within each network.

    Raises:
        DataError: a network has no baseline, or two names become the same.
    """
    found: dict[tuple[str, str, str], Name] = {}
    for entry in entries:
        who = (entry.dataset, entry.model, entry.variant)
        if who not in found:
            model = _plain("-".join(text for text in who[:2] if text), entry.place)
            found[who] = (model, _plain(entry.variant, entry.place))
    for model in dict.fromkeys(model for model, _ in found.values()):
        mine = {who: name for who, name in found.items() if name[0] == model}
        spelled = {who[2].lower(): who for who in mine}
        chosen = spelled.get(baseline.lower())
        if chosen is None and baseline == ORIGINAL:
            chosen = spelled.get("baseline")
        if chosen is None:
            variants = ", ".join(dict.fromkeys(who[2] for who in mine))
            raise DataError(
                f"{model}: must have a variant {baseline!r}, which the others are compared with, "
                f"got {variants}; name it with --baseline"
            )
        found[chosen] = (model, "baseline")
    owners: dict[Name, tuple[str, str, str]] = {}
    for who, name in found.items():
        if owners.setdefault(name, who) != who:
            raise DataError(
                f"{'/'.join(who)} and {'/'.join(owners[name])}: must have different names, got "
                f"{'/'.join(name)} for both; rename one"
            )
    first = {name[0]: position for position, name in reversed(list(enumerate(found.values())))}
    ordered = sorted(found, key=lambda w: (first[found[w][0]], found[w][1] != "baseline"))
    return {who: found[who] for who in ordered}


def plain_name(text: str) -> str:
    """Return a text as a name in a study file, other characters as dashes; it may become empty."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", text).strip("-._+=")


def _plain(text: str, place: str) -> str:
    """Return a text as a name in a study: other characters become dashes.

    Raises:
        DataError: nothing is left of it, or the name is reserved.
    """
    name = plain_name(text)
    if not name or name.startswith("control."):
        raise DataError(f"{place}: {text!r} cannot be a name here; rename it")
    return name


def collect(
    entries: Sequence[Entry], names: Mapping[tuple[str, str, str], Name]
) -> dict[Name, Known]:
    """Return the numbers by candidate.

    Raises:
        DataError: two rows give the same number.
    """
    found: dict[Name, Known] = {name: Known() for name in names.values()}
    for entry in entries:
        mine = found[names[entry.dataset, entry.model, entry.variant]]
        if entry.condition is None:
            _put(mine.alone, entry.metric, entry)
        elif _is_rival(mine.scores.get((entry.split, entry.condition, entry.metric)), entry):
            _put(mine.alone, f"{FOREIGN}accuracy", replace(entry, metric=f"{FOREIGN}accuracy"))
        else:
            _put(mine.scores, (entry.split, entry.condition, entry.metric), entry)
    return found


def _is_rival(known: Entry | None, entry: Entry) -> bool:
    """Return whether a second table gives a clean accuracy that the errors of the first imply."""
    return (
        known is not None
        and (entry.metric, entry.condition) == (ACCURACY, CLEAN)
        and known.file != entry.file
    )


def _put(numbers: dict[Any, Entry], key: Any, entry: Entry) -> None:
    known = numbers.setdefault(key, entry)
    if known is not entry:
        at = f" under {entry.condition}" if entry.condition else ""
        raise DataError(
            f"{entry.place}: {entry.metric} of {entry.model}, {entry.variant}{at} must be given "
            f"once, got it already in {known.place}; remove one"
        )


def reconcile(known: Mapping[Name, Known]) -> Iterator[str]:
    """Yield where two tables disagree about the clean accuracy."""
    for name, numbers in known.items():
        other = numbers.alone.get(f"{FOREIGN}accuracy")
        if other is None:
            continue
        ours = numbers.scores[other.split, CLEAN, ACCURACY]
        if abs(ours.value - other.value) > _ROUNDING:
            yield (
                f"{'/'.join(name)}: clean accuracy is {100 * ours.value:.2f} % in {ours.place} but "
                f"{100 * other.value:.2f} % in {other.place}; the first one counts"
            )


def notes_of(entries: Sequence[Entry], known: Mapping[Name, Known], baseline: str) -> Iterator[str]:
    """Yield what a reader of foreign numbers must know."""
    yield (
        "all numbers were measured elsewhere: no images and no predictions, so there are intervals "
        "and calibration errors only where the tables state them, and no flips; whether the "
        "networks had seen these images is not known"
    )
    models = dict.fromkeys(model for model, _ in known)
    if len(models) > 1:
        yield (
            f"the front pools {len(models)} networks: each candidate competes with those of all "
            f"others; errors are relative to each network's own {baseline}"
        )
    datasets = list(dict.fromkeys(entry.dataset for entry in entries))
    if len(datasets) > 1:
        yield (
            f"networks of several data sets ({', '.join(datasets)}) are in this run: mCE never "
            "mixes them, but the front does; --dataset NAME imports one alone"
        )
    yield from _missing(known)


def _missing(known: Mapping[Name, Known]) -> Iterator[str]:
    """Yield which candidates lack what others have; their names may be spelled differently."""
    lacking = {
        "errors or accuracies": [k for k, n in known.items() if not n.scores],
        "errors under corruption": [
            k for k, n in known.items() if all(c.is_clean for _, c, _ in n.scores)
        ],
        "costs": [k for k, n in known.items() if not any(m.startswith("cost.") for m in n.alone)],
    }
    for what, names in lacking.items():
        bare = ["/".join(name) for name in names]
        if 0 < len(bare) < len(known):
            more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
            yield f"no {what} of {', '.join(bare[:3])}{more}"
