"""Images in one ``.npz`` file: the simple way to bring any data set."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.archive import LARGE, check_member, map_member
from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.data.known_files import State, is_settled, recall, remember, state_of
from shrinkproof.data.reading import locate, require
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_NAMED: Final = ("images", "target", "classes", "groups")


@component
class Arrays:
    """Images and labels from the arrays of a ``.npz`` file.

    Reference ``arrays:PATH.npz``; a relative path starts from the folder of the study file.

    Arrays: ``images`` (N, H, W, 3) uint8 and ``target`` (N,) of any integer type are required;
    ``classes`` (C,) names the classes, ``groups`` (N,) says which images belong together, and
    every other array (N,) becomes a slice of that name.

    Memory: images of 64 MiB and more are mapped, not read, if the file is not compressed
    (`numpy.savez`): processes share the pages, and the system drops them where memory is short.
    Such a file must not be overwritten while a process uses it; replacing it by another one does no
    harm. Compressed images are read as a whole.
    """

    name: ClassVar[str] = "arrays"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that the file exists.

        Raises:
            DataError: it does not.
        """
        require(locate(rest, roots))

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the images in the order of the file.

        Raises:
            DataError: the file is missing or damaged, or an array has the wrong shape or type.
        """
        if not rest:
            raise DataError("data reference must be 'arrays:PATH.npz', got no path")
        path = locate(rest, roots)
        if not path.is_file():
            raise DataError(f"arrays: {path} must be a .npz file, but there is no such file")
        state = state_of(path.stat())
        found = _read(path)
        images, target = _images(path, found), _target(path, found)
        count = len(images)
        if len(target) != count:
            raise DataError(
                f"{path}: target must have one label per image ({count}), got {len(target)}"
            )
        others = {n: _column(path, n, a, count) for n, a in found.items() if n not in _NAMED}
        groups = _column(path, "groups", found["groups"], count) if "groups" in found else None
        return ImageSet(
            source=f"arrays:{rest}",
            images=images,
            shape=(images.shape[1], images.shape[2]),
            target=target,
            classes=_classes(path, found, target),
            index=np.arange(count, dtype=np.int64),
            hashes=_hashes(path, state, images),
            groups=groups,
            slices=others,
        )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: must be a .npz file with 'images' and 'target', it is none")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            mapped = map_member(path, "images")
            return {
                name: mapped if name == "images" and mapped is not None else archive[name]
                for name in archive.files
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: must be a readable .npz file of plain arrays (no Python objects): {error}"
    )


def _required(path: Path, found: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in found:
        raise DataError(
            f"{path}: must have an array {name!r}, got {', '.join(sorted(found)) or 'none'}"
        )
    return found[name]


def _images(path: Path, found: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    images = _required(path, found, "images")
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not images.size:
        raise DataError(
            f"{path}: images must be (N, H, W, 3) uint8 with at least 1 image, got "
            f"{images.shape} {images.dtype}"
        )
    return np.ascontiguousarray(images)


def _hashes(path: Path, state: State, images: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the hash of each image; those of a large file are remembered until it changes."""
    if images.nbytes < LARGE:
        return hash_pixels(images)
    known = recall("pixels", path)
    if known.get("state") == list(state):
        return np.array(known["hashes"], dtype="U16")
    began = time.time_ns()
    if not images.flags.writeable:  # mapped; what is read was compared with its checksum
        try:
            check_member(path, "images")
        except (OSError, zipfile.BadZipFile) as error:
            raise _damaged(path, error) from error
    hashes = hash_pixels(images)
    if is_settled(state.changed, began):
        remember("pixels", path, {"state": state, "hashes": hashes.tolist()})
    return hashes


def _target(path: Path, found: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    target = _required(path, found, "target")
    if target.ndim != 1 or target.dtype.kind not in "iu":
        raise DataError(f"{path}: target must be (N,) integers, got {target.shape} {target.dtype}")
    return target.astype(np.int64)


def _classes(
    path: Path, found: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
) -> tuple[str, ...]:
    if "classes" not in found:
        return tuple(str(label) for label in range(int(target.max()) + 1))
    names = found["classes"]
    if names.ndim != 1 or len(set(names.tolist())) != len(names):
        raise DataError(f"{path}: classes must be (C,) different names, got {names.shape}")
    return tuple(str(name) for name in names.tolist())


def _column(path: Path, name: str, values: NDArray[Any], count: int) -> NDArray[np.str_]:
    if values.shape != (count,):
        raise DataError(
            f"{path}: {name} must have one value per image ({count},), got {values.shape}; "
            f"remove it or correct it"
        )
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)
