"""One candidate as a folder to hand over: written aside, loaded again, compared, then put there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof import __version__
from shrinkproof.artifacts import candidate as files
from shrinkproof.atomic import explained, replace_file, scratch_in, sync_folder
from shrinkproof.environment import capture
from shrinkproof.errors import ExportError, UsageError
from shrinkproof.export.agreement import Comparison
from shrinkproof.export.boxes import threshold_of
from shrinkproof.export.inputs import preprocessing
from shrinkproof.export.source import Source, check_sizes, open_source
from shrinkproof.export.target import folder_name, folder_of
from shrinkproof.export.verification import write_and_verify
from shrinkproof.records import Candidate, Json
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate

if TYPE_CHECKING:
    pass

FORMAT: Final = 1
"""Raise it when the manifest changes its meaning."""

IMAGES: Final = 256
"""Images on which the files are compared, where nobody says."""

MANIFEST: Final = "manifest.json"
CARD: Final = "MODEL_CARD.md"
PREPROCESS: Final = "preprocess.json"
EXAMPLE: Final = "example.py"
EXAMPLE_OF_BOXES: Final = "example_boxes.py"
STUDY: Final = "study.yaml"

COPIED: Final = (
    *(files.NETWORK, files.WEIGHTS, files.PACKED),
    *(files.RECIPE, files.CHANGES, files.LAYERS),
)
"""Files of the run that are handed over byte for byte."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written.

    Attributes:
        path: the folder.
        candidate: whose files these are.
        files: name -> ``{"sha256", "bytes"}``.
        agreement: how far the files that were loaded again agree.
        missing: file that is not there -> why.
    """

    path: Path
    candidate: Candidate
    files: Mapping[str, Json]
    agreement: tuple[Comparison, ...]
    missing: Mapping[str, str]


def export_candidate(
    results: Results | Path | str,
    name: str,
    out: Path | str | None = None,
    *,
    roots: Mapping[str, Path] | None = None,
    images: int = IMAGES,
) -> Exported:
    """Write the files of one candidate with their model card, after checking them on real images.

    All files are written aside and loaded again from there. They must answer as the candidate did
    when it was measured; otherwise nothing is left. An earlier export of the same candidate is
    replaced.

    Args:
        results: the run, or its directory; the data of its printed split must be there.
        name: of the candidate: ``resnet8/int8``, ``int8``, or ``chosen``.
        out: the folder; by default ``exports/<study>/<candidate>`` in the working directory.
        roots: where data and weights are, where they have moved since the run.
        images: on how many images the files are compared, at least 1.

    Raises:
        UnknownNameError: there is no such candidate; similar names are suggested.
        UsageError: nothing is chosen, the name is not unique, or the folder holds something else.
        DataError: the images are not where they were.
        ExportError: the candidate has failed, its files were changed, or they do not agree.
    """
    if images < 1:
        raise UsageError(f"--images: must be 1 or more, got {images}")
    results = results if isinstance(results, Results) else Results.load(results)
    candidate = find_candidate(results, name)
    folder = folder_of(results, candidate)
    standard = Path("exports", results.spec.full_name, folder_name(results, candidate))
    target = standard if out is None else Path(out)
    _check_place(target, candidate)
    source = open_source(results, candidate, roots or {})
    check_sizes(results, candidate, folder)
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = scratch_in(target.parent)
        scratch.mkdir()
    try:
        with explained(target):
            found = _fill(scratch, results, candidate, folder, source, images)
            _put(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return replace(found, path=target)


def _fill(
    scratch: Path,
    results: Results,
    candidate: Candidate,
    folder: Path,
    source: Source,
    count: int,
) -> Exported:
    """Write and check all files; the last two, card and manifest, tell about the others."""
    from shrinkproof.export.card import render_card
    from shrinkproof.export.facts import Facts

    for name in COPIED:
        _write(scratch / name, (folder / name).read_bytes())
    _check_certified(results, candidate, scratch)
    _write(scratch / STUDY, (results.store.path / "study.yaml").read_bytes())
    use = source.inputs.spec.models[candidate.model].use
    threshold = threshold_of(results, candidate)
    _write(scratch / PREPROCESS, _as_bytes(preprocessing(source, use, threshold)))
    name = EXAMPLE if source.base.detector is None else EXAMPLE_OF_BOXES
    asset = resources.files("shrinkproof.export") / "assets" / name
    _write(scratch / EXAMPLE, asset.read_bytes())
    verified = write_and_verify(scratch, results, candidate, source, count)
    base = {
        "name": candidate.model,
        "use": use,
        "fingerprint": source.base.fingerprint,
        "seen": None if source.base.seen is None else list(source.base.seen),
    }
    made = {p.name: described(p) for p in sorted(scratch.iterdir())}
    card = render_card(Facts(results, candidate), source, made, verified)
    _write(scratch / CARD, card.encode())
    made[CARD] = described(scratch / CARD)
    manifest = {
        "format": FORMAT,
        "study": results.spec.full_name,
        "candidate": {"key": candidate.key, "label": candidate.label, "role": candidate.role},
        "base": base,
        "files": made,
        "missing": dict(verified.missing),
        "agreement": [item.as_json() for item in verified.agreement],
        "versions": _versions(),
    }
    _write(scratch / MANIFEST, _as_bytes(manifest))
    return Exported(scratch, candidate, made, verified.agreement, verified.missing)


def _versions() -> Json:
    found = capture()
    return {
        "shrinkproof": __version__,
        "python": found["python"]["version"],
        "machine": found["os"]["machine"],
        "cpu": found["cpu"]["model"],
        "packages": found["packages"],
    }


def described(path: Path) -> Json:
    """Return size and SHA-256 of a file."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _check_certified(results: Results, candidate: Candidate, scratch: Path) -> None:
    """Refuse a file that is not the one a certificate was given to."""
    certificate = results.certificate or {}
    if certificate.get("status") != "valid":
        return  # it certifies nobody, and the card says so
    for entry in certificate["candidates"]:
        if entry["label"] != candidate.label:
            continue
        got = described(scratch / files.NETWORK)["sha256"]
        if entry["sha256"] != got:
            raise ExportError(
                f"{candidate.label}: {files.NETWORK} must be the certified file "
                f"({entry['sha256'][:16]}), got {got[:16]}; certify the candidate again"
            )


# the folder


def _check_place(target: Path, candidate: Candidate) -> None:
    """Refuse a folder that holds anything but an earlier export of the same candidate.

    Raises:
        UsageError: it does, or a file stands there.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target}: must be a folder, got a file; choose another with --out")
    present = sorted(path.name for path in target.iterdir())
    if not present:
        return
    try:
        manifest = json.loads((target / MANIFEST).read_text("utf-8"))
        label, key = manifest["candidate"]["label"], manifest["candidate"]["key"]
        known = {MANIFEST, *manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        label, key, known = "", "", set()
    rule = f"must be empty or hold an earlier export of {candidate.label}"
    advice = "choose another folder with --out, or remove this one"
    if key and key != candidate.key:
        raise UsageError(f"{target}: {rule}, got one of {label}; {advice}")
    strangers = [name for name in present if name not in known]
    if strangers:
        others = f" and {len(strangers) - 1} more" * (len(strangers) > 1)
        raise UsageError(f"{target}: {rule}, got {strangers[0]!r}{others}; {advice}")


def _put(scratch: Path, target: Path) -> None:
    """Give a complete folder its name; what stood there goes away afterwards."""
    old = scratch_in(target.parent)
    has_old = target.exists()
    if has_old:
        target.rename(old)
    try:
        scratch.rename(target)
    except OSError:
        if has_old:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(target.parent)


def _write(path: Path, content: bytes) -> None:
    replace_file(path, lambda file: file.write(content))


def _as_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
