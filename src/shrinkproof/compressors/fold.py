"""Batch norms merged into the layers before them: the form that is quantized and deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

PROPOSE: Final = "propose"
"""Stands in the name of the operation that chooses regions by falling score."""

TOLERANCE: Final = 1e-3
"""Largest change of an output by folding, as a part of the largest output."""


@component
class Fold:
    """Merge every batch norm into the convolution or linear layer before it.

    In evaluation mode a batch norm multiplies each channel by ``weight / sqrt(variance + eps)``
    and adds an offset, so the layer before it can do both: ``w' = w * factor`` and
    ``b' = (b - mean) * factor + bias`` (Jacob et al. 2018, arXiv:1712.05877, section 3.2). The
    sums are done in float64. Zeros of a mask stay exactly zero.

    The model becomes a graph module; layers keep their names, folded batch norms disappear.
    Needs: nothing. Put it after fine-tuning with batch norm and before ``cluster``.
    """

    name: ClassVar[str] = "fold"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    makes: ClassVar[frozenset[str]] = frozenset({"folded"})

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Return the folded model, checked on random input.

        Raises:
            UnsupportedLayerError: the model cannot be traced.
            CompressionError: a codebook would be destroyed, or outputs changed.
        """
        import torch

        from shrinkproof.compressors.reordered import reordered_difference

        # The example may be all zeros, which would not show a wrong weight.
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((4, *context.example.shape[1:]), generator=generator)
        probe = (context.example + noise).to(context.device)
        with torch.no_grad():
            before = model.eval()(probe)
            graph, layers, untouched = fold(model)
            after = graph(probe)
        limit = TOLERANCE * float(before.abs().max()) + 1e-6
        difference = float((before - after).abs().max())
        if difference > limit and any(PROPOSE in str(n.target) for n in graph.graph.nodes):
            difference = reordered_difference(before.cpu().numpy(), after.cpu().numpy(), limit)
        if not difference <= limit:
            raise CompressionError(
                f"fold: outputs must stay the same to {limit:.3g}, got a difference of "
                f"{difference:.3g}; leave `fold` out for this model"
            )
        change = Change(
            step=self.name,
            version=self.version,
            achieved={"folded": len(layers), "difference": difference},
            layers=layers,
            untouched=untouched,
        )
        return graph, change

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return a fresh model in its folded structure."""
        return fold_batch_norm(model)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return the model as a graph with its batch norms folded, in evaluation mode.

    The given model's layers are edited and shared; pass a private copy.

    Raises:
        UnsupportedLayerError: the model cannot be traced.
        CompressionError: a weight under a codebook or a quantizer would be scaled per channel.
    """
    return fold(model)[0]


def fold(model: nn.Module) -> tuple[fx.GraphModule, Json, Json]:
    """Return the folded graph, layer -> what was folded, and batch norm -> why it was not.

    Raises:
        UnsupportedLayerError: the model cannot be traced.
        CompressionError: a weight under a codebook or a quantizer would be scaled per channel.
    """
    from torch import nn

    from shrinkproof.compressors import graph as graphs

    model.eval()
    graph = graphs.trace(model)
    sites = graphs.calls(graph)
    layers: Json = {}
    untouched: Json = {}
    for name, nodes in sites.items():
        norm = graph.get_submodule(name)
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        reason = _reason_against(graph, sites, nodes, norm)
        if reason:
            untouched[name] = reason
            continue
        source: Any = nodes[0].args[0]
        _merge(graph.get_submodule(str(source.target)), norm, str(source.target), name)
        nodes[0].replace_all_uses_with(source)
        graph.graph.erase_node(nodes[0])
        layers[str(source.target)] = {"batch_norm": name}
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.eval(), layers, untouched


def _reason_against(
    graph: fx.GraphModule, sites: dict[str, list[fx.Node]], nodes: list[fx.Node], norm: Any
) -> str:
    """Return why a batch norm cannot be folded; empty where it can."""
    from shrinkproof.compressors import graph as graphs

    source: Any = nodes[0].args[0] if nodes[0].args else None
    if len(nodes) > 1:
        return "is used at several places"
    if norm.running_mean is None or norm.running_var is None:
        return "keeps no running statistics"
    if source is None or not graphs.is_weighted(graph, source):
        return "does not follow a convolution or linear layer directly"
    layer: Any = graph.get_submodule(str(source.target))
    if len(sites[str(source.target)]) > 1 or len(source.users) > 1:
        return f"the output of {source.target!r} is also used elsewhere"
    if layer.weight.shape[0] != norm.num_features:
        return f"its channels are not the output channels of {source.target!r}"
    return ""


def _merge(layer: Any, norm: Any, layer_name: str, norm_name: str) -> None:
    """Scale a layer's weight and bias in place by the batch norm behind it."""
    import torch
    from torch import nn

    mask = _release_mask(layer, layer_name, norm_name)
    weight = layer.weight
    with torch.no_grad():
        factor = torch.rsqrt(norm.running_var.double() + norm.eps)
        if norm.weight is not None:
            factor = factor * norm.weight.double()
        offset = -norm.running_mean.double() * factor
        if norm.bias is not None:
            offset = offset + norm.bias.double()
        if layer.bias is not None:
            offset = offset + layer.bias.double() * factor
        # Adding zero turns -0.0 into 0.0, so that a pruned weight has one spelling.
        scaled = weight.double() * factor.view(-1, *[1] * (weight.dim() - 1)) + 0.0
        layer.weight = nn.Parameter(scaled.to(weight.dtype), requires_grad=weight.requires_grad)
        layer.bias = nn.Parameter(offset.to(weight.dtype), requires_grad=weight.requires_grad)
    if mask is not None:
        from shrinkproof.compressors.constraint import Mask, constrain

        constrain(layer, "weight", Mask(mask))


def _release_mask(layer: Any, layer_name: str, norm_name: str) -> torch.Tensor | None:
    """Make a masked weight a plain parameter again and return its mask.

    Raises:
        CompressionError: the weight obeys a rule that scaling per channel would break.
    """
    from shrinkproof.compressors.constraint import Codebook, Mask, bake, constraints_of

    mask: torch.Tensor | None = None
    rules = constraints_of(layer, "weight")
    for rule in rules:
        if isinstance(rule, Mask):
            mask = rule.mask if mask is None else mask & rule.mask
        elif isinstance(rule, Codebook):
            raise CompressionError(
                f"fold: weight of {layer_name!r} holds a {rule.levels.numel()}-level codebook "
                f"that folding {norm_name!r} would scale per channel; put `fold` before `cluster`"
            )
        else:
            raise CompressionError(
                f"fold: weight of {layer_name!r} obeys {type(rule).__name__}, which folding "
                f"{norm_name!r} would break; put `fold` first"
            )
    if rules:
        bake(layer)
    return mask
