"""References ``cifar:NAME``: the built-in networks for small images, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple

from shrinkproof.errors import UnknownNameError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

INPUT_SHAPE: Final = (3, 32, 32)


class Architecture(NamedTuple):
    """One residual network for small images.

    Attributes:
        depth: number of weight layers on the longest path, 6n + 2.
        width: channels of the first stage; the next two have twice and four times as many.
        shortcut: how a block that changes shape passes its input on: ``pad`` (option A, without
            parameters) or ``project`` (option B, 1x1 convolution).
        version: raised when the network behind the name changes.
    """

    depth: int
    width: int
    shortcut: Literal["pad", "project"]
    version: int = 1


ARCHS: Final[Mapping[str, Architecture]] = {
    "resnet20": Architecture(20, 16, "pad"),
    "resnet20b": Architecture(20, 16, "project"),
    "resnet32": Architecture(32, 16, "pad"),
    "resnet56": Architecture(56, 16, "pad"),
    "resnet8w8": Architecture(8, 8, "project"),
}
"""Names that ``cifar:`` knows."""


def architecture(name: str) -> Architecture:
    """Return the network behind a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in ARCHS:
        raise UnknownNameError("cifar network", name, ARCHS)
    return ARCHS[name]


@component
class Cifar:
    """A built-in network for 32x32 images with freshly drawn weights.

    The weights depend only on the reference and the number of classes (10 unless the model says
    otherwise). Such a model has learned nothing: train it, or use the name as the ``arch`` of a
    checkpoint.
    """

    name: ClassVar[str] = "cifar"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = INPUT_SHAPE

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model without importing torch.

        Raises:
            UnknownNameError: the name is not known.
            ModelError: nobody said how images are preprocessed.
        """
        need_preprocess(settings)
        return identity(settings, self.arch_identity(rest, roots))

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return the network with freshly drawn weights.

        Raises:
            UnknownNameError: the name is not known.
            ModelError: nobody said how images are preprocessed.
        """
        from shrinkproof.models.assembly import assemble

        return assemble(
            self.build(rest, settings.classes, roots),
            settings,
            preprocess=need_preprocess(settings),
            input_shape=need_input_shape(settings, INPUT_SHAPE),
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:  # noqa: ARG002
        """Return the network without trained weights.

        Raises:
            UnknownNameError: the name is not known.
        """
        from shrinkproof.models.assembly import drawn
        from shrinkproof.models.cifar import resnet

        depth, width, shortcut, _ = architecture(rest)
        with drawn("cifar", rest):
            return resnet(depth, width, shortcut, 10 if classes is None else classes)

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return what pins the architecture, without importing torch.

        Raises:
            UnknownNameError: the name is not known.
        """
        return {"name": rest, "arch": list(architecture(rest))}
