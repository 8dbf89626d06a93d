"""References ``upsampled:NAME/WEIGHTS``: networks for ImageNet that are shown 32x32 images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from shrinkproof.errors import ModelError, UnknownNameError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.models.torchvision_source import NONE, Torchvision
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

INPUT_SHAPE: Final = (3, 32, 32)

NETWORKS: Final = ("mobilenet_v2", "resnet50", "vgg19")
"""Names of torchvision that ``upsampled:`` knows."""


@component
class Upsampled:
    """A network of da Silva et al. 2025 (arXiv:2512.24971) for images of 32x32 pixels.

    ``upsampled:mobilenet_v2``, ``resnet50`` or ``vgg19``. Inside, each pixel is repeated 7 x 7
    times; the convolutions of torchvision's network follow, global average pooling, a hidden layer
    of 1,024 units and one of the classes (10 unless the model says otherwise). A part behind a
    slash names published weights of the convolutions, ``upsampled:resnet50/IMAGENET1K_V1``;
    without it they are freshly drawn, as the two linear layers always are: train such a network.

    The paper's convolutions are Keras's. They have as many weights (besides biases before batch
    normalization in ResNet-50), but ResNet-50 takes its strides in 1x1 convolutions there, and
    batch normalization has other constants.
    """

    name: ClassVar[str] = "upsampled"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = INPUT_SHAPE

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model without importing torch.

        Raises:
            UnknownNameError: the name is not known.
            MissingExtraError: torchvision is not installed.
            ModelError: nobody said how images are preprocessed.
        """
        need_preprocess(settings)
        weights = rest.partition("/")[2] or NONE
        return identity(settings, {**self.arch_identity(rest, roots), "weights": weights})

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return the network, downloading published weights where they are not cached.

        Raises:
            UnknownNameError: the network or the weights are not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the weights cannot be loaded, or a needed setting is missing.
        """
        from shrinkproof.models.assembly import assemble

        preprocess = need_preprocess(settings)
        name, _, weights = rest.partition("/")
        _check(name)
        classifier = Torchvision().classifier(f"{name}/{weights or NONE}")
        return assemble(
            _adapted(name, classifier, settings.classes),
            settings,
            preprocess=preprocess,
            input_shape=need_input_shape(settings, INPUT_SHAPE),
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:
        """Return the network with freshly drawn weights.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the reference names weights.
        """
        name, _, weights = rest.partition("/")
        _check(name)
        if weights not in ("", NONE):
            raise ModelError(
                f"'upsampled:{rest}': the network of a checkpoint has no weights of its own, got "
                f"{weights!r}; write 'upsampled:{name}'"
            )
        return _adapted(name, Torchvision().build(name, None, roots), classes)

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:
        """Return what pins the architecture, without importing torch.

        Raises:
            UnknownNameError: the name is not known.
            MissingExtraError: torchvision is not installed.
        """
        name = rest.partition("/")[0]
        _check(name)
        return {**Torchvision().arch_identity(name, roots), "adapter": 1}


def _check(name: str) -> None:
    if name not in NETWORKS:
        raise UnknownNameError("upsampled network", name, NETWORKS)


def _adapted(name: str, classifier: nn.Module, classes: int | None) -> nn.Module:
    from shrinkproof.models.assembly import drawn
    from shrinkproof.models.upsampled import upsampled

    with drawn("upsampled", name):
        return upsampled(classifier, 10 if classes is None else classes)
