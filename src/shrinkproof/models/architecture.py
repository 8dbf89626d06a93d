"""The part of a model source that gives a network without weights, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, runtime_checkable

from shrinkproof.errors import ModelError, UnknownNameError
from shrinkproof.models import MODELS
from shrinkproof.records import Json

if TYPE_CHECKING:
    from torch import nn


class Architectures(Protocol):
    """A model source whose references can also be the ``arch`` of a checkpoint."""

    name: ClassVar[str]
    arch_input_shape: ClassVar[tuple[int, int, int] | None]

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:
        """Return what pins the architecture, as plain JSON values; torch is not imported."""
        ...

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:
        """Return the network without trained weights; None gives its own number of classes."""
        ...


@runtime_checkable
class SizedArchitectures(Protocol):
    """A source some of whose networks are made for one size of the input."""

    def build_for(
        self,
        rest: str,
        classes: int | None,
        roots: Mapping[str, Path],
        input_shape: tuple[int, int, int],
    ) -> nn.Module:
        """Return the network without trained weights, for inputs (C, H, W)."""
        ...


def build(
    source: Architectures,
    rest: str,
    classes: int | None,
    roots: Mapping[str, Path],
    input_shape: tuple[int, int, int],
) -> nn.Module:
    """Return an architecture, made for an input of this shape where that matters."""
    if isinstance(source, SizedArchitectures):
        return source.build_for(rest, classes, roots, input_shape)
    return source.build(rest, classes, roots)


def architectures(arch: str, model: str) -> tuple[Architectures, str]:
    """Return who knows an architecture, and its name there.

    Args:
        arch: the reference, ``scheme:rest``.
        model: the reference of the model, for messages.

    Raises:
        UnknownNameError: the scheme is not known.
        ModelError: there is no reference, or the scheme knows no architectures.
    """
    if not arch:
        raise ModelError(
            f"model {model!r}: a checkpoint holds only weights, so 'arch' must name the network "
            "they belong to, got none; write for example 'arch: cifar:resnet20', 'arch: "
            "torchvision:resnet18' or 'arch: import:package.module:function'"
        )
    scheme, _, rest = arch.partition(":")
    known = [name for name in MODELS.names() if name != "checkpoint"]
    if scheme not in MODELS:
        raise UnknownNameError("architecture scheme", scheme, known)
    source: Any = MODELS.create(scheme)
    if not hasattr(source, "build") or not hasattr(source, "arch_identity"):
        raise ModelError(
            f"model {model!r}: 'arch' must name a network without weights, got {arch!r}; "
            f"use one of the schemes {', '.join(known)}"
        )
    return cast("Architectures", source), rest
