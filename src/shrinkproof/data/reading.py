"""From a data reference, ``scheme:rest``, to labeled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shrinkproof.data import DATA
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, PluginError


def load_images(reference: str, roots: Mapping[str, Path]) -> ImageSet:
    """Return the images that a reference names.

    Args:
        reference: ``scheme:rest``, for example ``digits``, ``cifar10:test`` or
            ``imagefolder:data/val?resize=256&crop=224``.
        roots: named places the user gave for data; ``study`` is the folder that relative paths
            start from.

    Raises:
        UnknownNameError: the scheme is not registered.
        DataError: the images are missing, broken or inconsistent.
        PluginError: a plugin's data source returned something else than an `ImageSet`.
    """
    scheme, rest = _parts(reference)
    images = DATA.create(scheme).load(rest, roots)
    if not isinstance(images, ImageSet):
        raise PluginError(
            f"data source {scheme!r} of {DATA.origin(scheme)} must return an ImageSet, got "
            f"{type(images).__name__}"
        )
    return images


def check_present(reference: str, roots: Mapping[str, Path]) -> None:
    """Check cheaply that the images of a reference are there; nothing is read.

    A source may have a method ``present(rest, roots)`` for it; others are not checked.

    Raises:
        UnknownNameError: the scheme is not registered.
        DataError: a file or folder is missing.
    """
    scheme, rest = _parts(reference)
    present = getattr(DATA.create(scheme), "present", None)
    if present is not None:
        present(rest, roots)


def _parts(reference: str) -> tuple[str, str]:
    scheme, _, rest = reference.partition(":")
    if "/" in scheme and scheme not in DATA:
        raise DataError(
            f"data reference must be 'scheme:rest' with a scheme of {', '.join(DATA.names())}, "
            f"got {reference!r}; for a folder of class folders write 'imagefolder:{reference}'"
        )
    return scheme, rest


def require(path: Path) -> None:
    """Check that a file or folder exists.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; correct the path")


def locate(path: str, roots: Mapping[str, Path]) -> Path:
    """Return a path of the study file; relative ones start from the folder of that file."""
    place = Path(path).expanduser()
    return place if place.is_absolute() else roots.get("study", Path()) / place
