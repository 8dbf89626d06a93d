"""What a reader must know about a stored set."""

from __future__ import annotations

from pathlib import Path

from shrinkproof.stored.checksums import Checksums
from shrinkproof.stored.manifest import read_manifest


def notes_of(reference: str, folder: Path, checksums: Checksums) -> tuple[str, ...]:
    """Return caveats, one sentence each: of our own sets those that their manifest has.

    Args:
        reference: what the user wrote.
        folder: where the files are.
        checksums: what was found beside them.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        seed, preset = manifest["seed"], manifest["preset"]
        made = f"{reference}: written by shrinkproof with preset {preset!r} and seed {seed}"
        return (made, *(f"{reference}: {caveat}" for caveat in manifest["caveats"]))
    if not checksums.place:
        return (
            f"{reference}: no checksum file, so nothing proves that the images are the published "
            f"ones; results carry the checksum of what was read",
        )
    return ()
