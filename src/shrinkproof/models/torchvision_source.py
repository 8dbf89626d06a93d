"""References ``torchvision:NAME/WEIGHTS``: torchvision's classification networks."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
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


@component
class Torchvision:
    """A classification network of torchvision, with or without its published weights.

    ``torchvision:resnet50/IMAGENET1K_V2`` names the weights; without a name it is the weights
    that the installed torchvision calls the default. Mean, standard deviation and input size are
    those of the weights. ``torchvision:resnet50/none`` has freshly drawn weights and brings
    nothing.
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
        brought_shape: tuple[int, int, int] | None = None
        if wanted == NONE:
            need_preprocess(settings)
            module = self.build(rest, settings.classes, roots)
        else:
            weights = _weights(name, wanted)
            transforms = weights.transforms()
            brought = Preprocess(mean=tuple(transforms.mean), std=tuple(transforms.std))
            side = int(transforms.crop_size[0])
            brought_shape = (3, side, side)
            module = _pretrained(rest, name, weights)
        return assemble(
            module,
            settings,
            preprocess=need_preprocess(settings, brought),
            input_shape=need_input_shape(settings, brought_shape),
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return the network's name and torchvision's version.

        Raises:
            MissingExtraError: torchvision is not installed.
        """
        return {"name": _parts(rest)[0], "version": _version()}

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:  # noqa: ARG002
        """Return the network with freshly drawn weights; 1000 classes unless said otherwise.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: torchvision is absent or broken.
            ModelError: the reference names weights.
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
            module: nn.Module = models.get_model(name, weights=None, **sizes)
        return module


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

    known = models.list_models(module=models)
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
    try:
        module: nn.Module = _models(name).get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"model 'torchvision:{rest}': its weights could not be loaded, "
            f"{type(error).__name__}: {error}. Is this machine offline? Download {weights.url} "
            f"elsewhere and use 'checkpoint:FILE' with 'arch: torchvision:{name}'"
        ) from error
    return module
