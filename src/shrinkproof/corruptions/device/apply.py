"""Corrupt images where they are: checks, draws of the host, and the way back to the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shrinkproof.corruptions.apply import (
    check_images,
    check_index,
    corrupt_batch,
    create,
    streams_of,
)
from shrinkproof.corruptions.device.twins import Twin, twin_of
from shrinkproof.corruptions.jpeg import recompress
from shrinkproof.corruptions.presets import STORED_QUALITY, check_jpeg85, check_preset
from shrinkproof.errors import DataError
from shrinkproof.records import Condition

R = TypeVar("R")

_CPU_BLOCK: Final = 2**18
_GPU_BLOCK: Final = 2**24
"""Values treated at once: a few copies in float64, 8 bytes per value, must fit."""
_SHARE: Final = 2**21
"""Values that one thread of the host draws or treats at once."""
_THREADS: Final = 16
_NO_FLOAT64: Final = ("mps",)
"""Kinds of devices that cannot run the twins."""


def corrupt_on_device(
    images: Tensor,
    condition: Condition,
    *,
    preset: str,
    seed: int,
    index: NDArray[np.int64],
    frost_dir: Path | None = None,
    jpeg85: bool = False,
) -> Tensor:
    """Return the images under a condition, (N, H, W, 3) uint8 on their own device.

    The same as `shrinkproof.corruptions.apply.corrupt_batch` within the tolerances of
    ``TOLERANCE``: same constants, same random draws (made on the host, sent to the device). What
    has no twin for the device (``jpeg_compression``, ``spatter`` as water, plugins), and everything
    on a device without float64, is copied to the host, corrupted there by several threads, and
    copied back: then the result is bit-equal. Nothing is differentiable.

    Args:
        images: (N, H, W, 3) uint8 on any device, at least 16 x 16 pixels.
        condition: which corruption at which severity.
        preset: whose constants to use; never guessed from the image size.
        seed: seed of the study.
        index: (N,) index of each image in its data set, not negative, on the host.
        frost_dir: folder with the original frost photos; without it frost is procedural.
        jpeg85: write and read each corrupted image as JPEG of quality 85, on the host.

    Raises:
        UnknownNameError: the corruption or the preset is not known.
        UsageError: ``jpeg85`` does not belong to the preset.
        DataError: images or index are not of that form.
        PluginError: a corruption returned something else than such images.
    """
    job = Job(condition, preset, seed, frost_dir, jpeg85)
    index = np.asarray(index)
    job.check(images, index)
    if condition.is_clean:
        return images
    blocks = _blocks(images)
    if len(blocks) < 2:
        return job.finish(job.prepare(images, index))
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    pairs = ((index[block], images[block]) for block in blocks)
    with closing(_one_ahead(job, pairs)) as corrupted:
        for block, (_, part) in zip(blocks, corrupted, strict=True):
            result[block] = part
    return result


def corrupted_batches(
    batches: Iterable[tuple[NDArray[np.int64], Tensor]],
    condition: Condition,
    *,
    preset: str,
    seed: int,
    frost_dir: Path | None = None,
    jpeg85: bool = False,
) -> Generator[tuple[NDArray[np.int64], Tensor]]:
    """Yield ``(index, corrupted images)`` of batch after batch, the host one batch ahead.

    While a batch is used, a thread takes the next one from ``batches``, makes its random draws in
    pinned memory, and corrupts it if it has to be done on the host. The images are those of
    `corrupt_on_device`, whatever the sizes of the batches. An exception in the thread is raised
    here; closing the generator ends the thread.

    Args:
        batches: ``(index (N,) int64, images (N, H, W, 3) uint8 on any device)``; it is iterated
            in the other thread, on the CUDA stream that is current when the first is asked for.
        condition: which corruption at which severity.
        preset: whose constants to use.
        seed: seed of the study.
        frost_dir: folder with the original frost photos; without it frost is procedural.
        jpeg85: write and read each corrupted image as JPEG of quality 85, on the host.

    Raises:
        UnknownNameError: the corruption or the preset is not known.
        UsageError: ``jpeg85`` does not belong to the preset.
        DataError: images or index are not of that form.
        PluginError: a corruption returned something else than such images.
    """
    return _one_ahead(Job(condition, preset, seed, frost_dir, jpeg85), batches)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the host has done for one batch: its draws, or the result itself."""

    images: Tensor
    draws: Mapping[str, Tensor]
    result: Tensor | None = None
    twin: Twin | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One condition with everything but the images; fields as in `corrupt_on_device`."""

    condition: Condition
    preset: str
    seed: int
    frost_dir: Path | None = None
    jpeg85: bool = False

    def check(self, images: Tensor, index: NDArray[np.int64]) -> None:
        """Check what `corrupt_on_device` is given, and raise what it says."""
        if images.dtype != torch.uint8:
            kind = str(images.dtype).removeprefix("torch.")
            raise DataError(
                f"images to corrupt must be (N, H, W, 3) uint8, got {tuple(images.shape)} {kind}"
            )
        check_images(np.broadcast_to(np.uint8(0), tuple(images.shape)))
        if self.condition.is_clean:
            return
        check_preset(self.preset)
        if self.jpeg85:
            check_jpeg85(self.preset)
        create(self.condition.corruption, self.frost_dir)
        check_index(index, len(images))

    def prepare(self, images: Tensor, index: NDArray[np.int64]) -> Prepared:
        """Do the host's part for images that are already checked."""
        if self.condition.is_clean or not len(images):
            return Prepared(images, {}, result=images)
        corruption = create(self.condition.corruption, self.frost_dir)
        severity = self.condition.severity
        twin = twin_of(corruption, severity, self.preset)
        if twin is None or images.device.type in _NO_FLOAT64:
            return Prepared(images, {}, result=self._on_host(images, index))
        shape = (images.shape[1], images.shape[2])
        streams = streams_of(self.condition, preset=self.preset, seed=self.seed, index=index)

        def draw(share: slice) -> Mapping[str, NDArray[Any]]:
            drawn: Mapping[str, NDArray[Any]] = corruption.draw(
                streams.part(share), shape, severity, self.preset
            )
            return drawn

        drawn = _in_threads(draw, images)
        return Prepared(images, _joined(drawn, pin=images.is_cuda), twin=twin)

    def finish(self, prepared: Prepared) -> Tensor:
        """Return the corrupted images after the device's part, (N, H, W, 3) uint8."""
        images, twin = prepared.images, prepared.twin
        if prepared.result is not None:
            return prepared.result.to(images.device, non_blocking=True)
        assert twin is not None
        draws = {
            name: values.to(images.device, non_blocking=True)
            for name, values in prepared.draws.items()
        }
        result = torch.empty_like(images, memory_format=torch.contiguous_format)
        for block in _blocks(images):
            part = {name: values[block] for name, values in draws.items()}
            result[block] = twin(images[block], self.condition.severity, self.preset, part)
        return self._recompressed(result) if self.jpeg85 else result

    def _on_host(self, images: Tensor, index: NDArray[np.int64]) -> Tensor:
        pixels = images.cpu().numpy()

        def corrupt(share: slice) -> NDArray[np.uint8]:
            return corrupt_batch(
                pixels[share],
                self.condition,
                preset=self.preset,
                seed=self.seed,
                index=index[share],
                frost_dir=self.frost_dir,
                jpeg85=self.jpeg85,
            )

        return _tensor(_in_threads(corrupt, images), pin=images.is_cuda)

    @staticmethod
    def _recompressed(images: Tensor) -> Tensor:
        pixels = images.cpu().numpy()
        parts = _in_threads(lambda share: recompress(pixels[share], STORED_QUALITY), images)
        return _tensor(parts, pin=images.is_cuda).to(images.device)


def _one_ahead(
    job: Job, batches: Iterable[tuple[NDArray[np.int64], Tensor]]
) -> Generator[tuple[NDArray[np.int64], Tensor]]:
    stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
    source = iter(batches)

    def following() -> tuple[NDArray[np.int64], Prepared] | None:
        with torch.cuda.stream(stream):
            for given, images in source:
                index = np.asarray(given)
                job.check(images, index)
                return index, job.prepare(images, index)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="corruption-draws") as ahead:
        coming = ahead.submit(following)
        while (batch := coming.result()) is not None:
            coming = ahead.submit(following)
            yield batch[0], job.finish(batch[1])


def _blocks(images: Tensor) -> list[slice]:
    return _slices(images, _CPU_BLOCK if images.device.type == "cpu" else _GPU_BLOCK)


def _slices(images: Tensor, values: int) -> list[slice]:
    size = max(1, values // max(1, images.shape[1:].numel()))
    return [slice(start, start + size) for start in range(0, max(1, len(images)), size)]


def _in_threads(work: Callable[[slice], R], images: Tensor) -> list[R]:
    shares = _slices(images, _SHARE)
    threads = min(len(shares), _THREADS, os.cpu_count() or 1)
    if threads < 2:
        return [work(share) for share in shares]
    with ThreadPoolExecutor(threads, thread_name_prefix="corruption-host") as pool:
        return list(pool.map(work, shares))


def _joined(drawn: Sequence[Mapping[str, NDArray[Any]]], *, pin: bool) -> dict[str, Tensor]:
    return {name: _tensor([part[name] for part in drawn], pin=pin) for name in drawn[0]}


def _tensor(parts: Sequence[NDArray[Any]], *, pin: bool) -> Tensor:
    """Return arrays joined along the first axis, in pinned memory if they will travel."""
    if len(parts) == 1 and not pin and parts[0].flags.writeable:
        return torch.from_numpy(np.ascontiguousarray(parts[0]))
    count = sum(len(part) for part in parts)
    like = torch.from_numpy(np.empty(0, dtype=parts[0].dtype)).dtype
    joined = torch.empty((count, *parts[0].shape[1:]), dtype=like, pin_memory=pin)
    np.concatenate(parts, out=joined.numpy())
    return joined
