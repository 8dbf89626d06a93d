"""The part of a study file about how networks are run, its checks, and the batch of `auto`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

import pydantic

from shrinkproof.records import Form, Json
from shrinkproof.registry import component
from shrinkproof.spec.document import Path
from shrinkproof.spec.problems import Problems, shown

Device = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16", "float16"]

_OF_TWINS: Final = ("precision", "compile", "memory_format")
"""Settings that an exported file cannot follow: it brings its own arithmetic."""

_PIXELS: Final[dict[Device, int]] = {"cpu": 2**20, "cuda": 2**24}
"""Pixels of a batch, at most, where the study leaves the batch to us."""

_LARGEST: Final[dict[Device, int]] = {"cpu": 256, "cuda": 1024}
"""Images of such a batch, at most."""


@component
class InferenceSpec:
    """How networks are run while they are measured.

    Attributes:
        device: ``cpu``, or ``cuda``: an NVIDIA GPU, on which recipes also train.
        precision: numbers that convolutions and matrix products of the PyTorch form take; sums,
            normalizations and the weights themselves stay float32.
        compile: compile the PyTorch form with ``torch.compile``.
        memory_format: how images and weights of the PyTorch form lie in memory; ``auto`` is
            ``channels_last``, which is faster, except for networks whose code takes images for
            contiguous ones.
    """

    device: Device = "cpu"
    precision: Precision = "float32"
    compile: bool = False
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"

    @pydantic.model_validator(mode="after")
    def _check(self) -> InferenceSpec:
        if self.precision == "float16" and self.device == "cpu":
            raise ValueError(
                "precision float16 must be on device cuda, got cpu, which has no fast arithmetic "
                "for it; write 'precision: bfloat16', or 'device: cuda'"
            )
        return self

    @property
    def is_exact(self) -> bool:
        """Whether the PyTorch form runs on the CPU in float32, layer by layer."""
        plain = (self.device, self.precision, self.compile)
        return plain == ("cpu", "float32", False)

    @property
    def caveat(self) -> str:
        """What a reader of numbers must know; empty where `is_exact`."""
        rounded = [] if self.precision == "float32" else [f"in {self.precision}"]
        how = " and ".join([*rounded, *(["compiled"] if self.compile else [])])
        where = "networks run on a GPU" if self.device == "cuda" else ""
        told = f"PyTorch networks run {how}" if how and not where else where
        told += f", those of PyTorch {how}" if how and where else ""
        return f"{told}: numbers may differ from those of float32 on the CPU" if told else ""

    def parts(self, form: Form) -> Json:
        """Return what belongs into the key of a cell; empty where all is as it is by default."""
        found: Json = {} if self.device == "cpu" else {"device": self.device}
        if form == "twin":
            found |= {} if self.precision == "float32" else {"precision": self.precision}
            found |= {"compile": True} if self.compile else {}
            taken = "channels_last" if self.memory_format == "auto" else self.memory_format
            found |= {} if taken == "contiguous" else {"memory_format": taken}
        return {"inference": found} if found else {}


def auto_batch(pixels: int, device: Device) -> int:
    """Return the images of a batch where the study says ``auto``: a power of two.

    It depends on nothing but its arguments, so that every machine takes the same one: up to 64 x 64
    pixels 256 images on a CPU, and fewer of larger ones, so that all together have at most 2^20
    pixels; on a GPU at most 1,024 images of 2^24 pixels.

    Args:
        pixels: height times width of one image, of the largest one where sizes differ.
        device: where networks run.
    """
    fitting = max(1, _PIXELS[device] // max(1, pixels))
    return min(_LARGEST[device], 1 << (fitting.bit_length() - 1))


def check_inference(
    problems: Problems, spec: InferenceSpec, *, form: object, files: Collection[str]
) -> None:
    """Note what does not go together with the rest of a study.

    Args:
        problems: where the findings go.
        spec: the settings, whose types are right.
        form: which form is measured under corruptions.
        files: names of the models that are exported files.
    """
    path: Path = ("measure", "inference")
    plain = InferenceSpec()
    for name in _OF_TWINS if form != "twin" else ():
        value = getattr(spec, name)
        if value != getattr(plain, name):
            rule = f"must be left out for exported files, which bring their own, got {shown(value)}"
            problems.add((*path, name), f"{rule}; write 'form: twin' to measure PyTorch networks")
    if files and spec != plain:
        rule = f"must be left out for models that are exported files, got {', '.join(files)}"
        problems.add(path, f"{rule}, which run on the CPU as they are", is_key=True)
