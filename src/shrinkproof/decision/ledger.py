"""The use ledger: which images were looked at, how often, and what error is left.

A confidence of 95 % holds for one look. Whoever looks again at the same images, with another plan
and until something passes, gets what he wants with certainty. So each look is written down before
images are read: a planned number of looks shares the error, and a look beyond it is invalid.

The ledger is a file of lines that only grows. Each line carries a hash of itself and that of the
line before, so damage and later edits are found. The images of a look stand once per set in a
folder beside it. Looks overlap where they share an image or a group, whatever their sets. An image
is known by its digest: saved in another format it is another one.

What a ledger cannot know: looks that were made elsewhere, or written to another ledger; last
lines that were cut off together with their images; and whether a candidate of a later look was made
with knowledge of an earlier one's outcome. Splitting the error covers plans that do not depend on
earlier outcomes; a candidate tuned to them needs new images (Dwork et al. 2015,
doi:10.1126/science.aaa9375).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from shrinkproof.atomic import explained, replace_file, sync_folder
from shrinkproof.errors import StoreError, UsageError
from shrinkproof.records import Json, canonical_json

_START: Final = "0" * 64
"""What the first line names as the hash of the line before."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a set of images.

    Attributes:
        purpose: what for, for example ``certify``.
        plan: hash of what was going to be tested.
        images: number of images.
        image_set: hash of their digests and groups.
        number: the how-manieth look at any of these images, from 1.
        of: how many looks at them are planned, fixed by the first.
        budget: error that all planned looks share.
        error: error of this look; 0 where it is invalid.
        is_valid: whether it is within the plan.
        why: why it is invalid, or what limits it; empty where nothing does.
        made: when it was written, ISO 8601 in UTC.
        is_repeat: whether this plan had been written before, so that nothing was spent now.
    """

    purpose: str
    plan: str
    images: int
    image_set: str
    number: int
    of: int
    budget: float
    error: float
    is_valid: bool
    why: str
    made: str
    is_repeat: bool = field(default=False, compare=False)

    def as_json(self) -> Json:
        """Return what is written of the look."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS: Final = (
    "purpose",
    "plan",
    "images",
    "image_set",
    "number",
    "of",
    "budget",
    "error",
    "is_valid",
    "why",
    "made",
)


class Ledger:
    """The looks of one ledger file. Several processes may write to it at once.

    Args:
        path: the file; `open` checks it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Return the ledger in a file, which may not exist yet.

        Raises:
            StoreError: the file is damaged or was edited, or cannot be read.
        """
        ledger = cls(path)
        ledger.entries()
        return ledger

    def entries(self) -> tuple[Look, ...]:
        """Return all looks, oldest first.

        Raises:
            StoreError: the file is damaged or was edited, or cannot be read; names the line.
        """
        return self._read()

    def looks(self, digests: Collection[str]) -> tuple[Look, ...]:
        """Return the looks at any of these images, oldest first.

        Args:
            digests: one text per image that stands for its content, such as a SHA-256.

        Raises:
            StoreError: ledger or image lists are damaged, or cannot be read.
        """
        return self._overlapping(self.entries(), frozenset(digests))

    def spend(
        self,
        *,
        purpose: str,
        digests: Collection[str],
        plan: str,
        looks: int,
        error: float,
        groups: Collection[str] = (),
    ) -> Look:
        """Write down a look before the images are read, and return what it may claim.

        The first look at images fixes how many are planned and the error they share; the n-th of L
        gets a share of error / L. Where images were parts of several sets, the smallest plan and
        error count. A plan that is written already is the same look: it repeats its result
        (after a kill, for example) and spends nothing.

        Args:
            purpose: what the look is for.
            digests: one text per image that stands for its content.
            plan: hash of everything that will be tested.
            looks: number of looks planned, at least 1; only the first look at images can set it.
            error: error that they share, 0 to 1.
            groups: one text for each group (drive, patient) of the images; another image of a group
                that was looked at is not new either.

        Raises:
            UsageError: there are no images, looks or error are out of range, or the plan was
                written with other images.
            StoreError: the ledger is damaged, or cannot be written.
        """
        images = frozenset(digests)
        _check(images, purpose, plan, looks, error)
        count = len(images)
        images |= {_group_line(group) for group in groups}
        with explained(self.path), self._locked() as file:
            entries, last = self._parsed(self.path.read_bytes())
            found = _same_plan(entries, purpose, plan)
            if found is not None:
                return _repeated(found, images)
            self._write_images(images)
            earlier = self._overlapping(entries, images)
            look = _next_look(earlier, purpose, images, plan, looks, error)
            look = replace(look, images=count)
            _append(file, _line(look, last))
            sync_folder(self.path.parent)
            return look

    @property
    def _folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}.images")

    def _overlapping(self, entries: Sequence[Look], images: frozenset[str]) -> tuple[Look, ...]:
        own = _set_hash(images)
        shares = {own: True}
        for look in entries:
            if look.image_set not in shares:
                shares[look.image_set] = not images.isdisjoint(self._read_images(look))
        return tuple(look for look in entries if shares[look.image_set])

    def _read(self) -> tuple[Look, ...]:
        """Return the looks while nobody writes one."""
        import fcntl

        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                return self._parsed(file.read())[0]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _parsed(self, text: bytes) -> tuple[tuple[Look, ...], str]:
        """Return the looks and the hash of the last line."""
        entries, last = [], _START
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            look, last = _parsed_line(line, last, f"{self.path}:{number}")
            entries.append(look)
        return tuple(entries), last

    def _write_images(self, images: frozenset[str]) -> None:
        path = self._folder / f"{_set_hash(images)}.txt"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: file.write(_image_text(images)))
            sync_folder(self.path.parent)

    def _read_images(self, look: Look) -> frozenset[str]:
        path = self._folder / f"{look.image_set}.txt"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"{path} must list the images of an earlier look, got {error.strerror or error}; "
                "restore it beside the ledger"
            ) from error
        if hashlib.sha256(text).hexdigest() != look.image_set:
            raise StoreError(
                f"{path} must list the images of an earlier look, got other ones; restore the file"
            )
        return frozenset(text.decode().splitlines())

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file for this process alone, opened for appending."""
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _check(images: frozenset[str], purpose: str, plan: str, looks: int, error: float) -> None:
    if not images or not all(image and len(image.splitlines()) == 1 for image in images):
        raise UsageError(
            "ledger: every image must have a digest of one line, got none or an empty one"
        )
    if not purpose or not plan:
        raise UsageError(f"ledger: a look must have purpose and plan, got {purpose!r} and {plan!r}")
    if looks < 1 or not 0 < error < 1:
        raise UsageError(
            f"ledger: looks must be at least 1 and error between 0 and 1, got {looks} and {error}"
        )


def _same_plan(entries: Sequence[Look], purpose: str, plan: str) -> Look | None:
    for look in entries:
        if (look.purpose, look.plan) == (purpose, plan):
            return look
    return None


def _repeated(look: Look, images: frozenset[str]) -> Look:
    if look.image_set != _set_hash(images):
        raise UsageError(
            f"ledger: plan {look.plan} must keep its images, got others; a plan's hash must cover "
            "the images it is about"
        )
    return replace(look, is_repeat=True)


def _next_look(
    earlier: Sequence[Look],
    purpose: str,
    images: frozenset[str],
    plan: str,
    looks: int,
    error: float,
) -> Look:
    """Return the look that comes after the earlier ones at some of the same images."""
    of = min((look.of for look in earlier), default=looks)
    budget = min([error, *(look.budget for look in earlier)])
    number = len(earlier) + 1
    is_valid = number <= of
    return Look(
        purpose=purpose,
        plan=plan,
        images=len(images),
        image_set=_set_hash(images),
        number=number,
        of=of,
        budget=budget,
        error=budget / of if is_valid else 0.0,
        is_valid=is_valid,
        why=_why(earlier, images, number, of, looks),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _why(earlier: Sequence[Look], images: frozenset[str], number: int, of: int, looks: int) -> str:
    if number == 1:
        return ""
    own = _set_hash(images)
    same = (
        "these images" if all(look.image_set == own for look in earlier) else "some of these images"
    )
    planned = f"{of} look{'s' if of > 1 else ''} {'were' if of > 1 else 'was'} planned"
    if number > of:
        return f"look {number} at {same}, but {planned}; it needs new images"
    text = (
        f"look {number} of {of} at {same}; it holds for candidates that were made without knowing "
        "the outcome of the looks before"
    )
    return text if looks == of else f"{text}; {planned} at the first look, {looks} now"


def _group_line(group: str) -> str:
    return f"group {hashlib.sha256(group.encode()).hexdigest()[:32]}"


def _set_hash(images: frozenset[str]) -> str:
    return hashlib.sha256(_image_text(images)).hexdigest()


def _image_text(images: frozenset[str]) -> bytes:
    return "".join(f"{image}\n" for image in sorted(images)).encode()


def _line(look: Look, before: str) -> bytes:
    body = {**look.as_json(), "before": before}
    return canonical_json({**body, "line": _hash_of(body)}).encode() + b"\n"


def _hash_of(body: Json) -> str:
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _append(file: int, line: bytes) -> None:
    """Add a line durably, or leave the file as it was."""
    size = os.fstat(file).st_size
    try:
        written = os.write(file, line)
        os.fsync(file)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file, size)
        raise


def _parsed_line(line: bytes, before: str, where: str) -> tuple[Look, str]:
    """Return the look of a line and the line's hash."""
    if not line.endswith(b"\n"):
        raise StoreError(
            f"{where}: a line of the ledger must be complete, got its beginning; the write was "
            "cut off before any image was read: remove this line"
        )
    try:
        body: dict[str, Any] = json.loads(line)
        digest = body.pop("line")
        look = Look(**{name: body[name] for name in _FIELDS})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{where}: must be a line of the ledger, got something else; restore the file"
        ) from error
    if digest != _hash_of(body):
        raise StoreError(
            f"{where}: a line of the ledger must be as it was written, got a changed one; restore "
            "the file"
        )
    if body["before"] != before:
        raise StoreError(
            f"{where}: must follow the line before it, got one that followed another; lines were "
            "removed, inserted or moved: restore the file"
        )
    return look, digest
