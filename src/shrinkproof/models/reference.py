"""From a model reference, ``scheme:rest``, to a network that is ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

from shrinkproof.errors import ModelError, PluginError
from shrinkproof.models import MODELS
from shrinkproof.models.box_outputs import BoxOutputs
from shrinkproof.models.loaded import LoadedModel, Preprocess
from shrinkproof.records import Json, key_of
from shrinkproof.registry import Strings, component


def _as_preprocess(value: object) -> object:
    """Build the settings of a study file; errors keep their place in the file."""
    return Preprocess(**value) if isinstance(value, Mapping) else value


def _as_box_outputs(value: object) -> object:
    """Build the settings of a study file; errors keep their place in the file."""
    return BoxOutputs(**value) if isinstance(value, Mapping) else value


Size = Annotated[int, pydantic.Field(ge=1)]


@component
class ModelSpec:
    """One model of a study: which network, with which weights, seeing images how.

    Attributes:
        use: the reference, ``scheme:rest``: ``checkpoint:PATH``,
            ``import:package.module:function``, ``timm:NAME``, ``torchvision:NAME/WEIGHTS``,
            ``cifar:NAME``, ``upsampled:NAME/WEIGHTS`` or ``onnx:FILE``.
        arch: the network that a checkpoint's weights belong to, itself a reference:
            ``cifar:resnet20``, ``torchvision:resnet18``, ``timm:NAME``,
            ``import:package.module:function``. Only for ``checkpoint:``.
        classes: number of classes, at least 2 where images have one class each; None takes what
            the weights say.
        preprocess: from uint8 pixels to network input; None takes what the reference brings,
            which is an error where it brings nothing.
        input_shape: (C, H, W) of one input; None takes what the reference brings.
        seen: what the network was trained on: data references (``cifar10:train``) or split names
            (``train``). None means that nobody knows, which counts as having seen everything.
        boxes: what the outputs of an exported detector mean. Only for ``onnx:``.
    """

    use: Annotated[str, pydantic.Field(pattern=r"^[^:\s]+:\S(.*\S)?$")]
    arch: Annotated[str, pydantic.Field(pattern=r"^$|^[^:\s]+:\S(.*\S)?$")] = ""
    classes: Annotated[int, pydantic.Field(ge=1)] | None = None
    preprocess: Annotated[Preprocess, pydantic.BeforeValidator(_as_preprocess)] | None = None
    input_shape: Annotated[tuple[Size, Size, Size], pydantic.Field(strict=False)] | None = None
    seen: Strings | None = None
    boxes: Annotated[BoxOutputs, pydantic.BeforeValidator(_as_box_outputs)] | None = None

    @property
    def scheme(self) -> str:
        """The part of the reference before the first colon."""
        return self.use.partition(":")[0]

    @property
    def rest(self) -> str:
        """The part of the reference after the first colon."""
        return self.use.partition(":")[2]


def as_model_spec(value: object) -> object:
    """Return a `ModelSpec` for a plain reference or a mapping; anything else as it is.

    Raises:
        pydantic.ValidationError: a setting is wrong.
    """
    if isinstance(value, str):
        return ModelSpec(use=value)
    return ModelSpec(**value) if isinstance(value, Mapping) else value


ModelField = Annotated[
    ModelSpec, pydantic.BeforeValidator(as_model_spec, json_schema_input_type=str | ModelSpec)
]
"""Type of a study-file field that takes a model: a plain reference, or a mapping."""


def load_model(spec: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
    """Return the network of a model, in evaluation mode, float32, on the CPU.

    Args:
        spec: which model.
        roots: named places; ``study`` is the folder of the study file, ``weights`` a folder of
            checkpoints.

    Raises:
        UnknownNameError: the scheme, or the name behind it, is not known.
        ModelError: the model is missing, broken, does not fit its architecture, or nobody said
            how its images are preprocessed.
        MissingExtraError: the package behind the scheme is absent or broken.
        PluginError: a plugin's source returned something else than a `LoadedModel`.
    """
    source = _source(spec)
    loaded = source.load(spec.rest, spec, roots)
    if not isinstance(loaded, LoadedModel):
        raise PluginError(
            f"model source {spec.scheme!r} of {MODELS.origin(spec.scheme)} must return a "
            f"LoadedModel, got {type(loaded).__name__}"
        )
    return loaded


def fingerprint(spec: ModelSpec, roots: Mapping[str, Path]) -> str:
    """Return the identity of a model, 16 hex digits; torch is not imported.

    It covers the weights and architecture (as far as the scheme can know them without running
    code), the preprocessing, the input shape and the number of classes. What a model has ``seen``
    is no part of it, because no prediction depends on that.

    Raises:
        UnknownNameError: the scheme is not known.
        ModelError: a file of the model is missing, or a needed setting.
        MissingExtraError: the package behind the scheme is absent.
    """
    return str(_source(spec).fingerprint(spec.rest, spec, roots))


def identity(spec: ModelSpec, origin: Json) -> str:
    """Return the key of a model from what its source knows and from its settings.

    Args:
        spec: the model's settings.
        origin: plain JSON values that pin weights and architecture.
    """
    preprocess = spec.preprocess
    return key_of(
        "model",
        {
            "scheme": spec.scheme,
            "origin": origin,
            "classes": spec.classes,
            "preprocess": None if preprocess is None else _preprocessing(preprocess),
            "input_shape": None if spec.input_shape is None else list(spec.input_shape),
        },
    )


def _preprocessing(preprocess: Preprocess) -> Json:
    """Return what decides about the network's input; a size only where there is one."""
    found: Json = {"mean": list(preprocess.mean), "std": list(preprocess.std)}
    if preprocess.size is not None:
        found |= {"size": list(preprocess.size), "keep_ratio": preprocess.keep_ratio}
    return found


def need_preprocess(spec: ModelSpec, brought: Preprocess | None = None) -> Preprocess:
    """Return the preprocessing of a model: the study's, else what the reference brings.

    Raises:
        ModelError: there is neither.
    """
    found = spec.preprocess or brought
    if found is None:
        raise ModelError(
            f"model {spec.use!r}: preprocessing must be known, got none. Say it in one of three "
            "ways: 1. in the study file, 'preprocess: {mean: [r, g, b], std: [r, g, b]}' on the "
            "scale 0 to 1; 2. in Python, ModelSpec(..., preprocess=Preprocess(mean=..., std=...)); "
            "3. use a reference that brings its own, 'timm:NAME' or 'torchvision:NAME/WEIGHTS'"
        )
    return found


def need_input_shape(
    spec: ModelSpec, brought: tuple[int, int, int] | None = None
) -> tuple[int, int, int]:
    """Return the input shape of a model: the study's, else what the reference brings.

    Raises:
        ModelError: there is neither.
    """
    found = spec.input_shape or brought
    if found is None:
        raise ModelError(
            f"model {spec.use!r}: the input shape must be known, got none; write for example "
            "'input_shape: [3, 224, 224]' (channels, height, width)"
        )
    return found


def _source(spec: ModelSpec) -> Any:
    if spec.boxes is not None and spec.scheme != "onnx":
        raise ModelError(
            f"model {spec.use!r}: 'boxes' must describe the outputs of an exported detector, "
            "'onnx:FILE', got another scheme; leave it out, the network's own 'decode' makes boxes"
        )
    return MODELS.create(spec.scheme)
