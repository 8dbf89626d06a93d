"""A model as an ONNX file: real integers, packed codebooks, equal bytes for equal models."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ExportError
from shrinkproof.records import Change

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from shrinkproof.artifacts.proto import Graph

INPUT: Final = "images"
OUTPUT: Final = "logits"
_SCALE: Final = "_scale"

AGREEMENT: Final = 1e-3
"""Largest difference of a floating-point file, as a part of the largest logit."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the file.
        bytes: its size.
        integers: weights that are stored as 8-bit integers and used as such.
        weight_only: weights that are stored in a smaller number format and become float32 while
            the runtime loads the file.
        packed: weights that are stored as indices and a table.
        notes: what a reader would expect to be smaller or an integer and is not, with the reason.
        difference: largest absolute difference between the logits of file and model, on
            the example and on noise; where the file chooses proposals and another choice explains
            the difference, the one that `reordered_difference` gives.
    """

    path: Path
    bytes: int
    integers: tuple[str, ...]
    weight_only: tuple[str, ...]
    packed: tuple[str, ...]
    notes: tuple[str, ...]
    difference: float


def export_onnx(
    model: nn.Module, example: Tensor, path: Path, *, changes: Sequence[Change] = ()
) -> ExportReport:
    """Write a model as an ONNX file that a stock ONNX Runtime executes.

    Imitated 8-bit activations become QuantizeLinear and DequantizeLinear, weights with a scale
    become 8-bit integers, weights in a smaller format are stored in it, clustered weights become
    indices and a table. The batch size is free.
    The file holds no time, path or stack trace: equal models give equal bytes.

    Args:
        model: baked, in evaluation mode.
        example: (n, C, H, W) float32 input, n >= 1.
        path: the file; it is written whole or not at all.
        changes: what the recipe did; only weights that it clustered are packed, and only those
            whose format it changed are stored in it.

    Raises:
        ExportError: the model cannot be exported, a weight is off its integer grid or not exact in
            its format, or the file does not agree with the model.
    """
    from shrinkproof.artifacts.lowering import input_channels, weight_formats
    from shrinkproof.artifacts.packing import clustered_tensors
    from shrinkproof.artifacts.proto import Graph, write_bytes

    _refuse_unready(model)
    graph = Graph(_translate(model, example))
    _drop_zero_biases(graph, model)
    scales = _scales(model, graph)
    channels = input_channels(graph)
    packed: list[str] = []
    notes: list[str] = []
    aliases = _aliases(model, graph)
    asked, tables = weight_formats(changes), clustered_tensors(changes)
    clustered = {aliases[n] for n in tables if n in aliases}
    formats = {aliases[n]: kind for n, kind in asked.items() if n in aliases}
    notes.extend(
        f"{name}: not in the file under its name: no output depends on it, or the exporter merged "
        "it into another number"
        for name in dict.fromkeys((*_on_grid(model), *asked, *tables))
        if name not in aliases
    )
    for name in sorted({*scales, *clustered, *formats}):
        how = _Storage(scales.get(name), formats.get(name, ""), pack_it=name in clustered)
        if how.store(graph, name):
            packed.append(name)
        elif name in clustered:
            notes.append(f"{name}: not packed, because that would not save bytes")
    integers = {name: scale for name, scale in scales.items() if name not in formats}
    if integers:
        _complete_integers(graph, integers, channels, notes)
    write_bytes(path, graph.finish().SerializeToString(deterministic=True))
    return ExportReport(
        path=path,
        bytes=path.stat().st_size,
        integers=tuple(sorted(integers)),
        weight_only=tuple(sorted(formats)),
        packed=tuple(packed),
        notes=tuple(notes),
        difference=_agree(
            model,
            example,
            path,
            exact=not integers,
            chooses=any(node.op_type == "NonMaxSuppression" for node in graph.nodes),
        ),
    )


def _refuse_unready(model: nn.Module) -> None:
    from torch.nn.utils import parametrize

    if any(parametrize.is_parametrized(layer) for layer in model.modules()):
        raise ExportError(
            "a model must be baked before it is exported, got constraints that are still "
            "attached; call `bake` first"
        )
    if any(layer.training for layer in model.modules()):
        raise ExportError(
            "a model must be in evaluation mode to be exported, got training mode; call "
            "`model.eval()` first"
        )


def _translate(model: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Return the model as plain ONNX operators with its weights as they are.

    The exporter's own optimizer would merge batch norms into weights, and a clustered weight would
    lose its levels; so only constants are folded here, and nothing that reads a parameter, such as
    the transposition of a linear layer's weight. The runtime merges them while it loads.
    """
    import onnxscript.optimizer
    import torch

    from shrinkproof.artifacts.proto import OPSET

    # A batch of one would be taken for a constant.
    inputs = example[:1].expand(2, *example.shape[1:]).contiguous()
    try:
        with _silence():
            program = torch.onnx.export(
                model,
                (inputs,),
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                opset_version=OPSET,
                custom_translation_table=_own_operators(),
            )
            if program is None:
                raise ExportError(f"{type(model).__name__}: the exporter returned no program")
            onnxscript.optimizer.fold_constants(program.model, should_fold=_leave_parameters(model))
            onnxscript.optimizer.remove_unused_nodes(program.model)
            proto: onnx.ModelProto = program.model_proto
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        raise ExportError(
            f"{type(model).__name__}: the model must be expressible in ONNX operators, got "
            f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        ) from error
    if proto.functions:
        import onnx.inliner

        proto = onnx.inliner.inline_local_functions(proto)
    return proto


def _leave_parameters(model: nn.Module) -> Callable[[Any], bool | None]:
    """Return what tells the folding of constants to leave the users of parameters alone."""
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}

    def should_fold(node: Any) -> bool | None:
        return (
            False if any(value is not None and value.name in own for value in node.inputs) else None
        )

    return should_fold


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's remarks about itself off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _own_operators() -> dict[Any, Any]:
    import torch
    from onnxscript import opset21

    import shrinkproof.compressors.activation
    import shrinkproof.models.faster_rcnn_proposals  # noqa: F401  (both register operators)
    from shrinkproof.artifacts.proposals import propose

    def fake_quantize(inputs: Any, scale: Any, zero_point: Any) -> Any:
        levels = opset21.QuantizeLinear(inputs, scale, zero_point)
        return opset21.DequantizeLinear(levels, scale, zero_point)

    operators = torch.ops.shrinkproof
    return {operators.fake_quantize.default: fake_quantize, operators.propose.default: propose}


def _drop_zero_biases(graph: Graph, model: nn.Module) -> None:
    """Remove the zeros that the exporter writes for convolutions without a bias."""
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for node in graph.nodes:
        if node.op_type != "Conv" or len(node.input) < 3 or node.input[2] in own:
            continue
        if node.input[2] in graph.initializers and not graph.array(node.input[2]).any():
            del node.input[2]


def _aliases(model: nn.Module, graph: Graph) -> dict[str, str]:
    """Return parameter name -> the name it has in the file; shared parameters have one there."""
    by_identity: dict[int, str] = {}
    named = list(model.named_parameters(remove_duplicate=False))
    for name, parameter in named:
        if name in graph.initializers:
            by_identity.setdefault(id(parameter), name)
    return {name: by_identity[id(p)] for name, p in named if id(p) in by_identity}


def _scales(model: nn.Module, graph: Graph) -> dict[str, NDArray[np.float32]]:
    """Return weight name in the file -> its scale, for the weights on an integer grid."""
    aliases = _aliases(model, graph)
    return {
        aliases[name]: scale.detach().cpu().numpy().astype(np.float32)
        for name, scale in _on_grid(model).items()
        if name in aliases
    }


def _on_grid(model: nn.Module) -> dict[str, Tensor]:
    """Return weight name in the model -> its scale, for the weights on an integer grid."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    found = {name.removesuffix(_SCALE): scale for name, scale in model.named_buffers()}
    return {name: scale for name, scale in found.items() if name in weights}


@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    """How one weight is stored.

    Attributes:
        scale: of its integers, (out,) or (1,); None where it is no integer.
        format: ``int8``, ``int4``, ``float16`` or ``bfloat16`` where only the weight has it and
            arithmetic is float32; empty otherwise.
        pack_it: store indices and a table where that is smaller.
    """

    scale: NDArray[np.float32] | None
    format: str
    pack_it: bool

    def store(self, graph: Graph, name: str) -> bool:
        """Store the weight; return whether it was packed."""
        from shrinkproof.artifacts.lowering import rebuild_weight, store_values, store_weight
        from shrinkproof.artifacts.packing import pack

        # Adding zero turns -0.0 into 0.0: one value must not take two levels.
        values = self._values(graph.array(name) + np.float32(0), name)
        nbytes = (values.size + 1) // 2 if self.format == "int4" else values.nbytes
        rebuilt = pack(graph, name, values, nbytes) if self.pack_it else ""
        if self.format:
            stored = rebuilt or store_values(graph, name, values, self.format)
            rebuild_weight(graph, name, self.scale, stored)
        elif self.scale is not None:
            stored = rebuilt or store_values(graph, name, values, "int8")
            store_weight(graph, name, self.scale, stored)
        elif rebuilt:
            graph.redirect(name, rebuilt, list(graph.users(name)))
        return bool(rebuilt)

    def _values(self, weight: NDArray[np.float32], name: str) -> NDArray[Any]:
        from shrinkproof.artifacts.lowering import to_integers, to_short_float

        if self.scale is not None:
            return to_integers(weight, self.scale, name, limit=7 if self.format == "int4" else 127)
        return to_short_float(weight, self.format, name) if self.format else weight


def _complete_integers(
    graph: Graph,
    scales: dict[str, NDArray[np.float32]],
    channels: dict[str, int],
    notes: list[str],
) -> None:
    from shrinkproof.artifacts.lowering import carry_integers, keep_in_float, store_bias

    carry_integers(graph)
    for name in sorted(scales):
        notes.extend(store_bias(graph, name, scales[name]))
    notes.extend(keep_in_float(graph, channels))


def _agree(model: nn.Module, example: Tensor, path: Path, *, exact: bool, chooses: bool) -> float:
    """Return the largest difference between file and model on the example and noise.

    Where a file chooses proposals, which rounding may change: see `reordered_difference`.

    Raises:
        ExportError: a floating-point file does not give the model's logits, or one is not finite.
    """
    import torch

    from shrinkproof.artifacts.session import Session
    from shrinkproof.compressors.reordered import reordered_difference

    # The example may be all zeros, which would not show a wrong weight.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((3, *example.shape[1:]), generator=generator).to(example)
    probe = torch.cat([example, example[:1] + noise])
    with torch.no_grad():
        expected = model(probe).cpu().numpy()
    got = Session(path)(probe.cpu().numpy())
    if got.shape != expected.shape:
        raise ExportError(
            f"{path}: the file must give logits of shape {expected.shape}, got {got.shape}"
        )
    difference = float(np.abs(got - expected).max())
    limit = AGREEMENT * float(np.abs(expected).max()) + 1e-6
    if difference > limit and chooses:
        difference = reordered_difference(got, expected, limit)
    if not np.isfinite(difference) or (exact and difference > limit):
        raise ExportError(
            f"{path}: the file must give the model's logits to {limit:.3g}, got a difference of "
            f"{difference:.3g}"
        )
    return difference
