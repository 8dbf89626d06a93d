"""``manifest.json``: what a set of ours is made of, and which of its files are complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from shrinkproof.atomic import replace_file
from shrinkproof.errors import StoreError, UsageError
from shrinkproof.records import Json

MANIFEST: Final = "manifest.json"
FORM: Final = 1
"""Raise it when a key of the manifest changes its meaning."""


def read_manifest(folder: Path) -> Json | None:
    """Return the manifest of a set that shrinkproof has written, None where there is none.

    Raises:
        StoreError: there is one, but it is damaged or of a newer form.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it or copy it again") from error
    if not isinstance(found, dict) or not isinstance(found.get("made_by"), dict):
        return None
    if "shrinkproof" not in found["made_by"]:
        return None
    if found.get("form") != FORM:
        raise StoreError(
            f"{path}: form must be {FORM}, got {found.get('form')!r}; update shrinkproof"
        )
    return found


def write_manifest(folder: Path, manifest: Json) -> None:
    """Write the manifest, completely or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    replace_file(folder / MANIFEST, lambda file: file.write(text.encode()))


def continued(folder: Path, wanted: Json) -> Json:
    """Return the manifest to go on with: what is wanted, and what the folder has already.

    Corruptions and severities may be added to a set. Everything else that decides about its pixels
    must be as it was.

    Raises:
        UsageError: the folder holds another set, or something else.
    """
    found = read_manifest(folder)
    if found is None:
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if others:
            raise UsageError(
                f"{folder} must be empty or hold a set that shrinkproof has written, but it has "
                f"{others[0]!r} and no {MANIFEST}; choose another DIR"
            )
        return wanted
    for name, before, now in _differences(found, wanted):
        raise UsageError(
            f"{folder} holds a set with {name} {before!r}, this command asks for {now!r}; choose "
            f"another DIR, or delete this one to start again"
        )
    return {
        **wanted,
        "caveats": list(dict.fromkeys([*wanted["caveats"], *found["caveats"]])),
        "corruptions": {**found["corruptions"], **wanted["corruptions"]},
        "files": found["files"],
        "frost": wanted["frost"] or found["frost"],
        "severities": sorted({*found["severities"], *wanted["severities"]}),
    }


def _differences(found: Json, wanted: Json) -> list[tuple[str, object, object]]:
    pairs = [(name, found[name], wanted[name]) for name in ("format", "preset", "seed")]
    for name in ("fingerprint", "names"):
        label = f"{wanted['source']['reference']} of {name}"
        pairs.append((label, found["source"][name], wanted["source"][name]))
    if found["frost"] and wanted["frost"]:
        pairs.append(("frost", found["frost"], wanted["frost"]))
    for name, version in wanted["corruptions"].items():
        before = found["corruptions"].get(name, version)
        pairs.append((f"{name} of version", before, version))
    return [pair for pair in pairs if pair[1] != pair[2]]
