"""Weights in a smaller number format; arithmetic stays in floating point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from shrinkproof.compressors.layers import Scope, select_layers
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import Strings, component, fields_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.compressors.constraint import WeightConstraint

Format = Literal["int8", "int4", "float16", "bfloat16"]

BITS: Final[dict[Format, int]] = {"int8": 8, "int4": 4, "float16": 16, "bfloat16": 16}


@component
class WeightQuantization:
    """Store weights as 8- or 4-bit integers or 16-bit floats; compute with float32.

    The file becomes smaller, the network not faster: the runtime turns the weights into float32
    while it loads the file. Biases, batch norms and activations stay float32.

    Integers are symmetric: ``w ~ scale * integer`` with ``scale = max|w| / (2**(bits - 1) - 1)``
    per output channel, rounded half to even (Krishnamoorthi 2018, arXiv:1806.08342, section 2.2).
    A clustered weight has one scale per tensor, so that its levels stay as few as they are; so has
    a transposed convolution. Floats are rounded half to even (IEEE 754). Zeros stay exactly zero.

    Attributes:
        format: ``int8``, ``int4``, ``float16`` or ``bfloat16``.
        layers: ``conv`` or ``conv+linear``; ``full-conv`` and ``full-conv+linear`` leave depthwise
            convolutions alone.
        include: name patterns (``*`` for any text) of the layers to treat.
        exclude: name patterns of layers to leave alone.

    Raises:
        CompressionError: no layer to treat, a layer is quantized already, or a weight is not
            finite or too large for ``float16``.
    """

    name: ClassVar[str] = "quantize.weights"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    makes: ClassVar[frozenset[str]] = frozenset({"grid"})
    destroys: ClassVar[frozenset[str]] = frozenset({"grid"})

    format: Format = "int8"
    layers: Scope = "conv+linear"
    include: Strings = ("*",)
    exclude: Strings = ()

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:  # noqa: ARG002
        """Round every treated weight to the format; return the model and what was reached."""
        chosen = select_layers(
            model, self.layers, step=self.name, include=self.include, exclude=self.exclude
        )
        account = {
            f"{name}.weight".lstrip("."): self._treat(modules, name)
            for name, modules in chosen.treated.items()
        }
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"format": self.format, "weight_bits": BITS[self.format]},
            achieved={
                "format": self.format,
                "weight_bits": BITS[self.format],
                "tensors": len(account),
                "arithmetic": "float32",
                "other_tensors": "float32",
            },
            layers=account,
            untouched=dict(chosen.untouched),
        )

    def _treat(self, modules: list[nn.Module], layer: str) -> Json:
        """Round the weight that some modules share; return what the reader should know."""
        from shrinkproof.compressors.constraint import constrain, weight_of

        before = weight_of(modules[0])
        self._check(modules[0], before, layer)
        rule, account = self._rule(modules[0], before)
        for module in modules:
            constrain(module, "weight", rule, layer=layer)
        after = weight_of(modules[0])
        return {
            **account,
            "size": before.numel(),
            "mse": float((after.double() - before.double()).square().mean()),
        }

    def _rule(self, module: nn.Module, weight: Tensor) -> tuple[WeightConstraint, Json]:
        import torch

        from shrinkproof.compressors.constraint import FakeQuantWeight, ShortFloat, weight_scale

        bits = BITS[self.format]
        if self.format in ("float16", "bfloat16"):
            return ShortFloat(getattr(torch, self.format)), {"bits": bits}
        scale = weight_scale(weight, bits=bits, per_tensor=_one_scale(module))
        return FakeQuantWeight(scale, bits=bits), {
            "bits": bits,
            "scales": scale.numel(),
            "scale_low": float(scale.min()),
            "scale_high": float(scale.max()),
        }

    def _check(self, module: nn.Module, weight: Tensor, layer: str) -> None:
        import torch

        from shrinkproof.compressors.constraint import Codebook, Mask, constraints_of

        for rule in constraints_of(module):
            if not isinstance(rule, Mask | Codebook):
                raise CompressionError(
                    f"{self.name}: weight of {layer!r} must be quantized once, got {rule.label} "
                    "already; remove the second quantization from the recipe"
                )
        if hasattr(module, "weight_scale"):
            raise CompressionError(
                f"{self.name}: weight of {layer!r} must be quantized once, it has a scale already; "
                "start from the model before quantization"
            )
        if not bool(weight.isfinite().all()):
            raise CompressionError(
                f"{self.name}: weight of {layer!r} must be finite, got NaN or infinity; the model "
                "is broken before this step"
            )
        largest = float(weight.abs().max())
        limit = torch.finfo(torch.float16).max
        if self.format == "float16" and largest > limit:
            raise CompressionError(
                f"{self.name}: weights of {layer!r} must be at most {limit:g} for float16, got "
                f"{largest:g}; use bfloat16"
            )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:
        """Return the model with a place for each scale; the numbers come with the weights.

        Raises:
            ModelError: the model is not the one that the change was made for.
        """
        import torch

        chosen = select_layers(model, self.layers, step=self.name)
        for tensor, account in change.layers.items():
            name = tensor.removesuffix("weight").removesuffix(".")
            modules: list[Any] = chosen.treated.get(name, [])
            if not modules:
                raise ModelError(
                    f"{self.name}: the model must be the one that was quantized, got one without "
                    f"the layer {name!r}; load the same architecture"
                )
            for module in modules:
                if "scales" in account:
                    module.register_buffer("weight_scale", torch.ones(int(account["scales"])))
        return model


def _one_scale(module: nn.Module) -> bool:
    """Return whether a weight has one scale: its values are shared, or axis 0 are its inputs."""
    from torch.nn.modules.conv import _ConvTransposeNd

    from shrinkproof.compressors.constraint import Codebook, constraints_of

    shared = any(isinstance(rule, Codebook) for rule in constraints_of(module))
    return shared or isinstance(module, _ConvTransposeNd)
