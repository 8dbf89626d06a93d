"""Whether two runs measured the same images, and under which conditions the same pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import PRESETS
from shrinkproof.evaluators.scores import Scores
from shrinkproof.records import Cell, Condition, Json, key_of

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

_EARLIER_BATCH: Final = 256
"""What ``data.batch: auto`` was before runs said which batch they took."""

_UNKNOWN: Final = "nothing shows that both runs corrupted the images in the same way"


def other_images(first: Results, second: Results) -> str:
    """Return why the printed splits of two runs are not the same images; empty where they are.

    A fingerprint covers order, pixels, labels, classes and groups.
    """
    if first.store.path.resolve() == second.store.path.resolve():
        return ""
    own, other = (r.data["splits"].get(r.printing, {}) for r in (first, second))
    if not own.get("fingerprint") or own.get("fingerprint") != other.get("fingerprint"):
        return (
            f"the runs measured other images: {own.get('count', 0)} of {own.get('source', '?')} "
            f"({first.printing}) and {other.get('count', 0)} of {other.get('source', '?')} "
            f"({second.printing})"
        )
    return ""


def is_other_data(first: Results, second: Results) -> bool:
    """Return whether the printed images of two runs come from different data sets."""
    sources = [r.data["splits"].get(r.printing, {}).get("source") for r in (first, second)]
    return bool(other_images(first, second)) and sources[0] != sources[1]


def other_pixels(first: Results, second: Results, condition: Condition) -> str:
    """Return why a condition does not show the same pixels in both runs; empty where it does.

    Runs that share a cell showed the same. Else what decides about the pixels is read from the keys
    of the cells: a key is recomputed with the corruption of today, and where both runs have exactly
    these keys, preset, seed, version and sources of the corruption are the same.
    """
    images = other_images(first, second)
    if images or condition.is_clean or first.store.path.resolve() == second.store.path.resolve():
        return images
    own, other = (list(_cells(r, condition)) for r in (first, second))
    if {cell.key for cell in own} & {cell.key for cell in other}:
        return ""
    shown = [_shown(*pair) for pair in ((first, own), (second, other))]
    if shown[0] is None or shown[1] is None:
        return _UNKNOWN
    if shown[0] != shown[1]:
        texts = [_spelled(a, b) for a, b in (shown, reversed(shown))]
        return f"the runs corrupted the images differently, {' and '.join(texts)}"
    return ""


def other_corruption(first: Results, second: Results, condition: Condition) -> str:
    """Return why a condition is another one in both runs, whatever the images; empty if it is not.

    Another seed is another draw of the same corruption. Another preset, version, stored set, frost
    or compression is another corruption, whose numbers say nothing about a candidate. Empty also
    where the keys of neither run show what was done.
    """
    if condition.is_clean or first.store.path.resolve() == second.store.path.resolve():
        return ""
    own, other = (list(_cells(r, condition)) for r in (first, second))
    if not own or not other or {cell.key for cell in own} & {cell.key for cell in other}:
        return ""
    shown = [_shown(first, own), _shown(second, other)]
    known = [{k: v for k, v in found.items() if k != "seed"} for found in shown if found]
    if len(known) == 1:
        return _UNKNOWN
    if not known or known[0] == known[1]:
        return ""
    texts = [_spelled(*known), _spelled(*reversed(known))]
    return f"the runs corrupted the images differently, {' and '.join(texts)}"


def _spelled(one: Json | None, other: Json | None) -> str:
    """Return in words what one corruption has and the other has not."""
    known = other or {}
    items = sorted((one or {}).items())
    return ", ".join(f"{name} {value}" for name, value in items if known.get(name) != value)


def _cells(results: Results, condition: Condition) -> Iterator[Cell]:
    """Yield the scores of a condition on the printed split."""
    for cell in results.cells:
        place = (cell.evaluator, cell.split, cell.condition)
        if place == ("scores", results.printing, condition):
            yield cell


def _shown(results: Results, cells: list[Cell]) -> Json | None:
    """Return what decides about the pixels of a condition; None where no key shows it."""
    spec = results.spec
    for cell in cells:
        for corruption in _guesses(results, cell.condition):
            parts: Json = {
                "batch": _batch(results, cell.split),
                "candidate": cell.candidate,
                "condition": str(cell.condition),
                "corruption": corruption,
                "form": cell.form,
                "images": results.data["splits"][cell.split]["fingerprint"],
                "threads": spec.threads,
                "version": Scores.version,
                **spec.measure.inference.parts(cell.form),
            }
            if key_of("scores", parts) == cell.key:
                return corruption
    return None


def _batch(results: Results, split: str) -> int:
    """Return how many images of a split networks were given at a time."""
    written = results.spec.data.batch
    known: int | None = results.data["splits"][split].get("batch")
    return known or (_EARLIER_BATCH if written == "auto" else written)


def _guesses(results: Results, condition: Condition) -> Iterator[Json]:
    """Yield what may decide about the pixels, as the study and the notes of the run say."""
    spec = results.spec
    told = results.data.get("origins", {}).get(results.printing, {}).get(str(condition), "")
    source = re.search(r"\((.*?)\)", told)
    if spec.data.stored is not None:
        if source is not None:
            yield {"stored": source[1]}
        return
    if condition.corruption not in CORRUPTIONS:
        return
    made: dict[str, Any] = {
        "seed": spec.seed,
        "version": CORRUPTIONS.get(condition.corruption).version,
    }
    if condition.corruption == "frost" and source is not None:
        made["frost"] = source[1]
    if spec.data.jpeg85:
        made["jpeg85"] = True
    for preset in [spec.data.preset] if spec.data.preset else PRESETS:
        yield {**made, "preset": preset}
