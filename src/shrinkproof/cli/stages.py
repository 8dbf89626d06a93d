"""What a launcher of one stage says in the end: what it did, what is left, what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from shrinkproof.study.shares import Share
    from shrinkproof.study.staging import Portion, Stage, Standing

_WORK: Final = {"prepare": ("candidate", "prepared"), "measure": ("cell", "measured")}
_NAMED: Final = 8


def print_stage(portion: Portion) -> bool:
    """Print how far a stage is and which command comes next.

    Returns:
        Whether this share is complete and nothing in it has failed.
    """
    mine, whole, behind = portion.standing()
    if portion.share is not None:
        typer.echo(_told(portion.name, portion.stage, mine))
    typer.echo(_told(portion.stage, portion.stage, whole) + _places(behind, portion.share))
    typer.echo(_next(portion, behind))
    return not (mine.failed or mine.missing)


def _told(name: str, stage: Stage, found: Standing) -> str:
    noun, done = _WORK[stage]
    if not found.total:
        return f"{name}: nothing to do"
    failed = f", {found.failed} failed" if found.failed else ""
    missing = f", {found.missing} missing" if found.missing else ""
    return f"{name}: {found.done} of {found.total} {noun}s {done}{failed}{missing}"


def _places(behind: tuple[Share, ...], share: Share | None) -> str:
    if share is None or not behind:
        return ""
    shown = ", ".join(str(other.index) for other in behind[:_NAMED])
    return f", in shards {shown}{', ...' * (len(behind) > _NAMED)} of {share.count}"


def _next(portion: Portion, behind: tuple[Share, ...]) -> str:
    """Return the command that comes next, in words."""
    if behind:
        share = behind[0] if portion.share else None
        return f"next, unless it is at work: {portion.command(portion.stage, share)}"
    if portion.stage == "measure":
        return f"next: {portion.command()}"
    return f"next: {portion.command('measure', portion.share)}{_others(portion.share)}"


def _others(share: Share | None) -> str:
    return "" if share is None or share.count == 1 else " (and each of the others)"
