"""References ``detector:NAME``: the built-in small detectors, without weights."""

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


class Network(NamedTuple):
    """One small detector.

    Attributes:
        place: who builds it, ``module:function``.
        settings: arguments of the function, besides size of the input and number of classes.
        size: (H, W) of its input where the model names none.
        version: raised when the network behind the name changes.
    """

    place: str
    settings: Mapping[str, Any]
    size: tuple[int, int]
    version: int = 1


def _fcos(widths: tuple[int, ...], levels: int, pyramid: int, size: tuple[int, int]) -> Network:
    settings = {"widths": widths, "levels": levels, "pyramid": pyramid}
    return Network("shrinkproof.models.small_detector:fcos", settings, size)


NETWORKS: Final[Mapping[str, Network]] = {
    "fcos-small": _fcos((16, 32, 64, 128, 128), levels=3, pyramid=48, size=(256, 320)),
    "fcos-tiny": _fcos((16, 24, 40, 64), levels=2, pyramid=32, size=(112, 112)),
}
"""Names that ``detector:`` knows."""


def network(name: str) -> Network:
    """Return the network behind a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in NETWORKS:
        raise UnknownNameError("detector", name, NETWORKS)
    return NETWORKS[name]


@component
class SmallDetectors:
    """A built-in small detector with freshly drawn weights.

    Height and width of the input are those of ``input_shape``, multiples of 16 for
    ``detector:fcos-tiny`` and of 32 for ``detector:fcos-small``; without it, they are 112x112 and
    256x320. The weights depend only on the name and the number of classes (10 unless the model says
    otherwise). Such a model has learned nothing: train it, or use the reference as the ``arch`` of
    a checkpoint.
    """

    name: ClassVar[str] = "detector"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = None

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
            ModelError: nobody said how images are preprocessed, or the network takes no inputs of
                this size.
        """
        from shrinkproof.models.assembly import assemble

        input_shape = need_input_shape(settings, (3, *network(rest).size))
        return assemble(
            self.build_for(rest, settings.classes, roots, input_shape),
            settings,
            preprocess=need_preprocess(settings),
            input_shape=input_shape,
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:
        """Return the network without trained weights, for inputs of its usual size.

        Raises:
            UnknownNameError: the name is not known.
        """
        return self.build_for(rest, classes, roots, (3, *network(rest).size))

    def build_for(
        self,
        rest: str,
        classes: int | None,
        roots: Mapping[str, Path],  # noqa: ARG002
        input_shape: tuple[int, int, int],
    ) -> nn.Module:
        """Return the network without trained weights, for inputs (3, H, W).

        Raises:
            UnknownNameError: the name is not known.
            ModelError: the network takes no inputs of this size.
        """
        from shrinkproof.models.assembly import drawn

        chosen = network(rest)
        module, _, function = chosen.place.partition(":")
        build = getattr(importlib.import_module(module), function)
        with drawn("detector", rest):
            built: nn.Module = build(
                **chosen.settings,
                input_shape=input_shape,
                num_classes=10 if classes is None else classes,
            )
        return built

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return what pins the architecture, without importing torch.

        Raises:
            UnknownNameError: the name is not known.
        """
        chosen = network(rest)
        return {"name": rest, "arch": [*chosen.settings.values(), *chosen.size, chosen.version]}
