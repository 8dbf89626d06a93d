"""References ``cifar:NAME``: the built-in networks for small images, without weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from shrinkproof.errors import UnknownNameError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

INPUT_SHAPE: Final = (3, 32, 32)


class Network(NamedTuple):
    """One network for small images.

    Attributes:
        place: who builds it, ``module:function``.
        settings: arguments of the function, besides the number of classes.
        version: raised when the network behind the name changes.
    """

    place: str
    settings: Mapping[str, Any]
    version: int = 1


def _resnet(depth: int, width: int = 16, shortcut: str = "pad") -> Network:
    settings = {"depth": depth, "width": width, "shortcut": shortcut}
    return Network("shrinkproof.models.cifar:resnet", settings)


def _vgg(depth: int, hidden: int) -> Network:
    return Network("shrinkproof.models.cifar_vgg:vgg", {"depth": depth, "hidden": hidden})


NETWORKS: Final[Mapping[str, Network]] = {
    "densenet40_12": Network(
        "shrinkproof.models.cifar_densenet:densenet", {"depth": 40, "growth": 12}
    ),
    "mobilenetv2": Network("shrinkproof.models.cifar_mobilenet:mobilenet_v2", {}),
    "preresnet110": Network("shrinkproof.models.cifar_preresnet:preresnet", {"depth": 110}),
    "preresnet164": Network("shrinkproof.models.cifar_preresnet:preresnet", {"depth": 164}),
    "resnet110": _resnet(110),
    "resnet18": Network("shrinkproof.models.cifar_resnet18:resnet18", {}),
    "resnet20": _resnet(20),
    "resnet20b": _resnet(20, shortcut="project"),
    "resnet32": _resnet(32),
    "resnet56": _resnet(56),
    "resnet8w8": _resnet(8, width=8, shortcut="project"),
    "vgg16_bn": _vgg(16, hidden=512),
    "vgg19_bn": _vgg(19, hidden=0),
}
"""Names that ``cifar:`` knows."""


def network(name: str) -> Network:
    """Return the network behind a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in NETWORKS:
        raise UnknownNameError("cifar network", name, NETWORKS)
    return NETWORKS[name]


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

        chosen = network(rest)
        module, _, function = chosen.place.partition(":")
        build = getattr(importlib.import_module(module), function)
        with drawn("cifar", rest):
            built: nn.Module = build(
                **chosen.settings, num_classes=10 if classes is None else classes
            )
        return built

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return what pins the architecture, without importing torch.

        Raises:
            UnknownNameError: the name is not known.
        """
        chosen = network(rest)
        return {"name": rest, "arch": [*chosen.settings.values(), chosen.version]}
