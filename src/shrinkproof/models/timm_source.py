"""References ``timm:NAME``: networks of the timm package."""

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

COMMAND: Final = 'pip install "shrinkproof[timm]"'
_NONE: Final = "/none"


@component
class Timm:
    """A network of timm, with its published weights or with none.

    ``timm:resnet18.a1_in1k`` names the network and its weights; mean, standard deviation and
    input size are those of its pretrained configuration. ``timm:resnet18/none`` has freshly drawn
    weights; it still brings the configuration's input size, but no preprocessing.
    """

    name: ClassVar[str] = "timm"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = None

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:  # noqa: ARG002
        """Return the identity of the model without importing torch or timm.

        Raises:
            MissingExtraError: timm is not installed.
            ModelError: the network has no weights, and nobody said how images are preprocessed.
        """
        if rest.endswith(_NONE):
            need_preprocess(settings)
        return identity(settings, {"name": rest, "version": _version()})

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return the network with its weights, downloading them where they are not cached.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: timm is absent or broken.
            ModelError: the weights cannot be loaded, or nobody said how images are preprocessed.
        """
        from shrinkproof.models.assembly import assemble

        brought: Preprocess | None = None
        if rest.endswith(_NONE):
            need_preprocess(settings)
            module = self.build(rest, settings.classes, roots)
            config = _config(module)
        else:
            module = _pretrained(rest)
            config = _config(module)
            brought = Preprocess(mean=config["mean"], std=config["std"])
        return assemble(
            module,
            settings,
            preprocess=need_preprocess(settings, brought),
            input_shape=need_input_shape(settings, tuple(config["input_size"])),
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:  # noqa: ARG002
        """Return the network's name and timm's version.

        Raises:
            MissingExtraError: timm is not installed.
        """
        return {"name": rest.removesuffix(_NONE), "version": _version()}

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:  # noqa: ARG002
        """Return the network with freshly drawn weights and timm's own number of classes.

        Raises:
            UnknownNameError: the network is not known.
            MissingExtraError: timm is absent or broken.
        """
        from shrinkproof.models.assembly import drawn

        name = rest.removesuffix(_NONE)
        timm = _timm(name)
        sizes = {} if classes is None else {"num_classes": classes}
        with drawn("timm", name):
            module: nn.Module = timm.create_model(name, pretrained=False, **sizes)
        return module


def _version() -> str:
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError("timm is not installed.", command=COMMAND) from None


def _timm(name: str) -> Any:
    """Return the package after checking that it knows a network."""
    from shrinkproof.torchvision_ops import ensure

    _version()
    ensure()
    try:
        import timm
    # A package that does not fit its torch fails in any way; the cause is kept.
    except Exception as error:
        raise MissingExtraError(
            f"timm is installed but does not import: {type(error).__name__}: {error}.",
            command=f"{COMMAND} --force-reinstall --no-deps",
        ) from error
    if not timm.is_model(name):
        raise UnknownNameError("timm network", name, timm.list_models())
    return timm


def _config(module: nn.Module) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    return dict(resolve_model_data_config(module))


def _pretrained(name: str) -> nn.Module:
    timm = _timm(name)
    try:
        module: nn.Module = timm.create_model(name, pretrained=True)
    # timm's downloads fail with errors of several packages; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"model 'timm:{name}': its weights could not be loaded, {type(error).__name__}: "
            f"{error}. Is this machine offline, or the part after the dot unknown to timm? "
            f"Otherwise use 'checkpoint:FILE' with 'arch: timm:{name.partition('.')[0]}'"
        ) from error
    return module
