"""CIFAR as published: the python version (pickles) and the binary version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.data.unpickle import load_plain_pickle
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_SIDE: Final = 32
_PIXELS: Final = 3 * _SIDE * _SIDE


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one published CIFAR set.

    Attributes:
        name: name of the data source.
        python: folder and, per split, files of the python version.
        binary: folder and, per split, files of the binary version.
        counts: number of images per file, per split.
        label: key of the labels in the pickles.
        label_bytes: bytes before the pixels in a binary record; the last one is the label.
        classes: names in the order of the labels.
    """

    name: str
    python: tuple[str, Mapping[str, tuple[str, ...]]]
    binary: tuple[str, Mapping[str, tuple[str, ...]]]
    counts: Mapping[str, int]
    label: str
    label_bytes: int
    classes: tuple[str, ...]


_BATCHES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10: Final = Layout(
    name="cifar10",
    python=("cifar-10-batches-py", {"train": _BATCHES, "test": ("test_batch",)}),
    binary=(
        "cifar-10-batches-bin",
        {"train": tuple(f"{name}.bin" for name in _BATCHES), "test": ("test_batch.bin",)},
    ),
    counts={"train": 10_000, "test": 10_000},
    label="labels",
    label_bytes=1,
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
)

_FINE: Final = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100: Final = Layout(
    name="cifar100",
    python=("cifar-100-python", {"train": ("train",), "test": ("test",)}),
    binary=("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}),
    counts={"train": 50_000, "test": 10_000},
    label="fine_labels",
    label_bytes=2,
    classes=tuple(_FINE.split()),
)


@component
class Cifar10:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels, ten classes.

    Reference ``cifar10:train`` or ``cifar10:test``; the index of an image is its position in the
    official order. Reads the python and the binary version.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    name: ClassVar[str] = "cifar10"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that the files of the split exist.

        Raises:
            DataError: the place of the files is unknown, or one is missing.
        """
        _find(CIFAR10, _split_name(CIFAR10, rest), roots)

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return one split in the official order.

        Raises:
            DataError: the place of the files is unknown, or they are missing or damaged.
        """
        return read_cifar(CIFAR10, rest, roots)


@component
class Cifar100:
    """CIFAR-100: 60,000 images of 32 x 32 pixels, 50,000 to train on, of 100 classes.

    Reference ``cifar100:train`` or ``cifar100:test``; the index of an image is its position in the
    official order. Reads the python and the binary version; the 20 coarse classes are not read.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    name: ClassVar[str] = "cifar100"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that the files of the split exist.

        Raises:
            DataError: the place of the files is unknown, or one is missing.
        """
        _find(CIFAR100, _split_name(CIFAR100, rest), roots)

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return one split in the official order.

        Raises:
            DataError: the place of the files is unknown, or they are missing or damaged.
        """
        return read_cifar(CIFAR100, rest, roots)


def read_cifar(layout: Layout, split: str, roots: Mapping[str, Path]) -> ImageSet:
    """Return one split of a published CIFAR set in the official order.

    Args:
        layout: which files make up the set.
        split: ``train`` or ``test``.
        roots: place of the files under the name of the set: the folder of the batches or the
            folder around it.

    Raises:
        DataError: the place of the files is unknown, or they are missing or damaged.
    """
    files = _find(layout, _split_name(layout, split), roots)
    read = _read_binary if files[0].suffix == ".bin" else _read_python
    parts = [read(layout, path, layout.counts[split]) for path in files]
    flat = np.concatenate([pixels for pixels, _ in parts])
    target = np.concatenate([labels for _, labels in parts])
    by_channel = flat.reshape(-1, 3, _SIDE, _SIDE)
    images = np.ascontiguousarray(by_channel.transpose(0, 2, 3, 1))
    return ImageSet(
        source=f"{layout.name}:{split}",
        images=images,
        shape=(_SIDE, _SIDE),
        target=target,
        classes=layout.classes,
        index=np.arange(len(images), dtype=np.int64),
        hashes=hash_pixels(images),
        preset="cifar",
    )


def _split_name(layout: Layout, split: str) -> str:
    if split not in layout.counts:
        choices = " or ".join(f"'{layout.name}:{name}'" for name in layout.counts)
        raise DataError(f"data reference must be {choices}, got '{layout.name}:{split}'")
    return split


def _find(layout: Layout, split: str, roots: Mapping[str, Path]) -> list[Path]:
    advice = f"pass --root {layout.name}=PATH or set SHRINKPROOF_{layout.name.upper()}=PATH"
    if layout.name not in roots:
        raise DataError(
            f"{layout.name}: the place of its files is unknown; {advice}, where PATH is the "
            f"folder {layout.python[0]} or {layout.binary[0]} or the folder around it"
        )
    root = Path(roots[layout.name])
    versions = (layout.python, layout.binary)
    for folder, files in versions:
        for place in (root, root / folder):
            paths = [place / name for name in files[split]]
            if not any(path.is_file() for path in paths):
                continue
            missing = [path for path in paths if not path.is_file()]
            if missing:
                raise DataError(
                    f"{layout.name}:{split} needs {len(paths)} files, but {missing[0]} is "
                    f"missing; copy or download it again"
                )
            return paths
    raise DataError(
        f"{layout.name}:{split}: {root} must hold {layout.python[1][split][0]} or "
        f"{layout.binary[1][split][0]}, or a folder {layout.python[0]} or {layout.binary[0]} "
        f"with it; {advice}"
    )


def _read_binary(
    layout: Layout, path: Path, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = layout.label_bytes + _PIXELS
    size = path.stat().st_size
    if size != count * record:
        raise DataError(
            f"{path}: must have {count * record} bytes ({count} images), got {size}; "
            f"copy or download it again"
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(count, record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    return records[:, layout.label_bytes :], _checked_labels(layout, path, labels)


def _read_python(
    layout: Layout, path: Path, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = load_plain_pickle(path)
    pixels, labels = (_entry(path, batch, key) for key in ("data", layout.label))
    expected = (count, _PIXELS)
    got = f"{getattr(pixels, 'shape', type(pixels).__name__)} {getattr(pixels, 'dtype', '')}"
    if not isinstance(pixels, np.ndarray) or pixels.shape != expected or pixels.dtype != np.uint8:
        raise DataError(f"{path}: data must be {expected} uint8, got {got.strip()}")
    if not isinstance(labels, list | tuple | np.ndarray) or len(labels) != count:
        length = len(labels) if hasattr(labels, "__len__") else "no"
        raise DataError(f"{path}: must have {count} {layout.label}, got {length}")
    if not all(isinstance(label, int | np.integer) for label in labels):
        raise DataError(f"{path}: {layout.label} must be whole numbers")
    return pixels, _checked_labels(layout, path, np.array(labels, dtype=np.int64))


def _entry(path: Path, batch: Mapping[Any, Any], key: str) -> Any:
    """Return an entry by its Python 3 or Python 2 spelling."""
    for spelling in (key, key.encode()):
        if spelling in batch:
            return batch[spelling]
    raise DataError(f"{path}: must have an entry {key!r}, got {sorted(map(str, batch))}")


def _checked_labels(layout: Layout, path: Path, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    last = len(layout.classes) - 1
    if labels.min() < 0 or labels.max() > last:
        raise DataError(
            f"{path}: labels must be 0 to {last}, got {labels.min()} to {labels.max()}; "
            f"the file is damaged or of another set"
        )
    return labels
