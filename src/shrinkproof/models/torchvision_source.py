"""References ``torchvision:NAME/WEIGHTS``: torchvision's classifiers and detectors."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from shrinkproof.errors import MissingExtraError, ModelError, UnknownNameError
from shrinkproof.models.loaded import LoadedModel, Preprocess
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

COMMAND: Final = "pip install torchvision"
NONE: Final = "none"

ONE_STAGE: Final = (
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
TWO_STAGE: Final = "fasterrcnn_"

SQUARE: Final = (3, 224, 224)
LANDSCAPE: Final = (3, 800, 1344)
"""Holds an image whose shorter side is 800 and whose sides have a ratio of up to 5:3."""

USUAL_SHAPES: Final[Mapping[str, tuple[int, int, int]]] = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": (3, 320, 640),
    "ssd300_vgg16": (3, 300, 300),
    "ssdlite320_mobilenet_v3_large": (3, 320, 320),
}
"""Of detectors; `LANDSCAPE` for the others."""

Scale = tuple[float, float, float]
IMAGENET: Final[tuple[Scale, Scale]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SCALES: Final[Mapping[str, tuple[Scale, Scale]]] = {
    "ssd300_vgg16": ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "ssdlite320_mobilenet_v3_large": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of detectors; `IMAGENET` for the others."""


@component
class Torchvision:
    """A network of torchvision, with or without its published weights.

    ``torchvision:resnet50/IMAGENET1K_V2`` names the weights; without a name it is the weights
    that the installed torchvision calls the default. Mean, standard deviation and input size are
    those of the weights. ``torchvision:resnet50/none`` has freshly drawn weights and brings
    nothing.

    Detectors are ``ssd300_vgg16``, ``ssdlite320_mobilenet_v3_large``, ``retinanet_resnet50_fpn``
    and ``_v2``, ``fcos_resnet50_fpn``, and the networks ``fasterrcnn_...``. Their classes are
    counted without a background: of the published COCO weights, the 80 that are in use, in the
    order of their numbers. RetinaNet, FCOS and Faster R-CNN take images of 800x1344 pixels unless
    the model says otherwise. Torchvision itself has no fixed size: it shows an upright image larger
    than fits in there, and fills up with the mean color instead of black; so scores are not quite
    the published ones.
    """

    name: ClassVar[str] = "torchvision"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = None

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:  # noqa: ARG002
        """Return the identity of the model without importing torch or torchvision.

        Raises:
            MissingExtraError: torchvision is not installed.
            ModelError: weights are 'none' and a needed setting is missing.
        """
        name, weights = _parts(rest)
        if weights == NONE:
            need_preprocess(settings)
            need_input_shape(settings)
        return identity(settings, {"name": name, "weights": weights, "version": _version()})

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return the network with its weights, downloading them where they are not cached.

        Raises:
            UnknownNameError: the network or the weights are not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the weights cannot be loaded, or a needed setting is missing.
        """
        from shrinkproof.models.assembly import assemble

        name, wanted = _parts(rest)
        brought: Preprocess | None = None
        if wanted == NONE:
            need_preprocess(settings)
            input_shape = need_input_shape(settings)
            module = self.build_for(rest, settings.classes, roots, input_shape)
        else:
            weights = _weights(name, wanted)
            brought, brought_shape = _brought(name, weights)
            input_shape = need_input_shape(settings, brought_shape)
            module = (
                _pretrained_detector(rest, name, weights, input_shape)
                if is_detector(name)
                else _pretrained(rest, name, weights)
            )
        return assemble(
            module,
            settings,
            preprocess=need_preprocess(settings, brought),
            input_shape=input_shape,
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def classifier(self, rest: str) -> nn.Module:
        """Return a classifier with all its layers, with its weights or freshly drawn ones.

        Raises:
            UnknownNameError: the network or the weights are not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the weights cannot be loaded.
        """
        name, wanted = _parts(rest)
        if wanted == NONE:
            return self.build_for(rest, None, {}, SQUARE)
        return _pretrained(rest, name, _weights(name, wanted))

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return the network's name and torchvision's version.

        Raises:
            MissingExtraError: torchvision is not installed.
        """
        return {"name": _parts(rest)[0], "version": _version()}

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:
        """Return the network with freshly drawn weights, for the input of published ones.

        Without a number of classes, classifiers have 1000 and detectors 80.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the reference names weights.
        """
        return self.build_for(rest, classes, roots, _usual_shape(_parts(rest)[0]))

    def build_for(
        self,
        rest: str,
        classes: int | None,
        roots: Mapping[str, Path],  # noqa: ARG002
        input_shape: tuple[int, int, int],
    ) -> nn.Module:
        """Return the network with freshly drawn weights; detectors are made for one input shape.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the reference names weights, or a detector does not accept the input.
        """
        from shrinkproof.models.assembly import drawn

        name, weights = _parts(rest)
        if weights not in ("", NONE):
            raise ModelError(
                f"'torchvision:{rest}': the network of a checkpoint has no weights of its own, "
                f"got {weights!r}; write 'torchvision:{name}'"
            )
        models = _models(name)
        sizes = {} if classes is None else {"num_classes": classes}
        with drawn("torchvision", name):
            module: nn.Module = (
                _detector(name, classes, input_shape, None)
                if is_detector(name)
                else models.get_model(name, weights=None, **sizes)
            )
        return module


def is_detector(name: str) -> bool:
    """Return whether a network of torchvision finds objects."""
    return name in ONE_STAGE or name.startswith(TWO_STAGE)


def _usual_shape(name: str) -> tuple[int, int, int]:
    """Return the input shape that torchvision gives images; for detectors of the ratio 5:3."""
    return USUAL_SHAPES.get(name, LANDSCAPE if is_detector(name) else SQUARE)


def _brought(name: str, weights: Any) -> tuple[Preprocess, tuple[int, int, int]]:
    """Return preprocessing and input shape of published weights.

    SSD stretches images to its size; the other detectors keep the ratio of the sides.
    """
    if is_detector(name):
        mean, std = SCALES.get(name, IMAGENET)
        keep_ratio = name not in SCALES
        return Preprocess(mean=mean, std=std, keep_ratio=keep_ratio), _usual_shape(name)
    transforms = weights.transforms()
    side = int(transforms.crop_size[0])
    return Preprocess(mean=tuple(transforms.mean), std=tuple(transforms.std)), (3, side, side)


def _detector(
    name: str, classes: int | None, input_shape: tuple[int, int, int], weights: Any
) -> nn.Module:
    place = "torchvision_detectors" if name in ONE_STAGE else "faster_rcnn"
    module = importlib.import_module(f"shrinkproof.models.{place}")
    detector: nn.Module = module.build(name, classes, input_shape, weights)
    return detector


def _parts(rest: str) -> tuple[str, str]:
    name, _, weights = rest.partition("/")
    return name, weights


def _version() -> str:
    try:
        return importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError("torchvision is not installed.", command=COMMAND) from None


def _models(name: str) -> Any:
    """Return ``torchvision.models`` after checking that it knows a classification network."""
    from shrinkproof.torchvision_ops import ensure

    status = ensure()
    if status.mode == "absent":
        raise MissingExtraError(f"torchvision cannot be used: {status.detail}.", command=COMMAND)
    from torchvision import models

    detectors = models.list_models(module=models.detection)
    known = models.list_models(module=models) + [n for n in detectors if is_detector(n)]
    if name not in known:
        raise UnknownNameError("torchvision network", name, known)
    return models


def _weights(name: str, wanted: str) -> Any:
    known = _models(name).get_model_weights(name)
    if wanted and wanted not in known.__members__:
        raise UnknownNameError(
            f"set of weights of torchvision:{name}", wanted, [*known.__members__, NONE]
        )
    return known[wanted or "DEFAULT"]


def _pretrained(rest: str, name: str, weights: Any) -> nn.Module:
    with _downloading(rest, name, weights):
        module: nn.Module = _models(name).get_model(name, weights=weights)
    return module


def _pretrained_detector(
    rest: str, name: str, weights: Any, input_shape: tuple[int, int, int]
) -> nn.Module:
    with _downloading(rest, name, weights):
        return _detector(name, None, input_shape, weights)


@contextmanager
def _downloading(rest: str, name: str, weights: Any) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"model 'torchvision:{rest}': its weights could not be loaded, "
            f"{type(error).__name__}: {error}. Is this machine offline? Download {weights.url} "
            f"elsewhere and use 'checkpoint:FILE' with 'arch: torchvision:{name}'"
        ) from error
