"""A compressed network with the account of how it came about: used, saved, loaded, summed up."""

from __future__ import annotations

import copy
import json
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.errors import ExportError, ModelError, UsageError
from shrinkproof.records import Candidate, Change, Json

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH: Final = 80
"""Longest line of a summary."""

SCRATCH: Final = ".training"
"""Folder in the directory of a candidate for what lets its training go on after a kill."""


@dataclass(frozen=True, slots=True)
class Costs:
    """How big a network is.

    Attributes:
        parameters: number of parameters; shared ones count once.
        nonzero: how many of them are not zero.
        macs: multiply-accumulates of one image.
        bytes: size of the ONNX file; None where the network cannot be exported.
        bytes_zip: size of the file in a zip archive.
        reason: why there is no file; empty where there is one.
    """

    parameters: int
    nonzero: int
    macs: int
    bytes: int | None
    bytes_zip: int | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """A compressed network, what was asked, and what was reached.

    Calling it calls the network.

    Attributes:
        module: the compressed network, in evaluation mode, with plain parameters.
        changes: what each step did, in order.
        original: a private copy of the network before the first step, in evaluation mode.
        example: one preprocessed input, (1, C, H, W) float32.
        candidate: who it is.
    """

    module: nn.Module
    changes: tuple[Change, ...]
    original: nn.Module
    example: Tensor
    candidate: Candidate
    _measured: dict[str, Costs] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the network's logits for preprocessed inputs (N, C, H, W)."""
        logits: Tensor = self.module(inputs)
        return logits

    def __repr__(self) -> str:
        steps = ", ".join(change.step for change in self.changes)
        return f"CompressedModel({type(self.original).__name__}: {steps})"

    @property
    def requested(self) -> tuple[Json, ...]:
        """What was asked of each step: its name under ``step``, and its goals."""
        return tuple({"step": change.step, **change.requested} for change in self.changes)

    @property
    def achieved(self) -> tuple[Json, ...]:
        """What each step reached: its name under ``step``, and the same goals where possible."""
        return tuple({"step": change.step, **change.achieved} for change in self.changes)

    @property
    def before(self) -> Costs:
        """How big the network was; exported on first use."""
        if "before" not in self._measured:
            self._measured["before"] = _exported_costs(self.original, self.example, ())
        return self._measured["before"]

    @property
    def after(self) -> Costs:
        """How big the compressed network is; exported on first use."""
        if "after" not in self._measured:
            self._measured["after"] = _exported_costs(self.module, self.example, self.changes)
        return self._measured["after"]

    def summary(self) -> str:
        """Return a table of sizes before and after, and what each step asked and reached."""
        return "\n".join([*_table(self.before, self.after), "", *_account(self.changes)])

    def save(self, directory: Path | str) -> Path:
        """Write everything that loads the network again, and its deployable file.

        The files are those of a study's candidates (`artifacts.candidate.write_candidate`), among
        them ``weights.safetensors``, ``recipe.json`` and ``model.onnx``; equal results give equal
        bytes. What an earlier call wrote there is replaced.

        Raises:
            UsageError: the directory holds something else.
            ExportError: a file cannot be written, or the network cannot be exported.
        """
        from shrinkproof.artifacts.candidate import NETWORK, write_candidate

        folder = Path(directory)
        check_place(folder)
        module = _on_cpu(self.module)
        write_candidate(
            folder,
            module=module,
            changes=self.changes,
            candidate=self.candidate,
            example=self.example.cpu(),
        )
        self._measured["after"] = _costs(module, self.example.cpu(), folder / NETWORK)
        return folder

    @classmethod
    def load(cls, directory: Path | str, fresh: nn.Module) -> CompressedModel:
        """Return a saved network, bit for bit; no images are needed.

        Args:
            directory: written by `save`, or a candidate of a study's run.
            fresh: the network that the recipe started from; copied, never edited. With other
                weights than the original's, ``before`` tells about those.

        Raises:
            ModelError: a file is missing or damaged, or does not fit the network.
        """
        from shrinkproof.artifacts.candidate import load_candidate, read_changes

        folder = Path(directory)
        module = load_candidate(folder, fresh)
        return cls(
            module=module,
            changes=read_changes(folder),
            original=copy.deepcopy(fresh).eval(),
            example=_example_of(folder).to(device_of(module)),
            candidate=_candidate_of(folder),
        )


def check_place(folder: Path) -> None:
    """Refuse a directory that holds anything but a candidate, before any work is done.

    Raises:
        UsageError: it does, or a file stands there.
    """
    from shrinkproof.artifacts import candidate

    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: must be a directory, got a file; choose another name")
    if (folder / candidate.RECIPE).is_file() and (folder / candidate.CHANGES).is_file():
        return
    # A killed writer leaves some files of a candidate, or temporary ones of their names.
    known = (
        *(candidate.CHANGES, candidate.LAYERS, candidate.NETWORK, candidate.PACKED),
        *(candidate.RECIPE, candidate.WEIGHTS, SCRATCH),
    )
    foreign = sorted(p.name for p in folder.iterdir() if not any(name in p.name for name in known))
    if foreign:
        others = f" and {len(foreign) - 1} more" * (len(foreign) > 1)
        raise UsageError(
            f"{folder}: must be empty or hold a compressed network, got {foreign[0]!r}{others}; "
            "choose another directory"
        )


def device_of(module: nn.Module) -> Any:
    """Return where all parameters and buffers of a network are; the CPU where it has none.

    Raises:
        ModelError: they are in several places.
    """
    import itertools

    import torch

    places = {t.device for t in itertools.chain(module.parameters(), module.buffers())}
    if len(places) > 1:
        raise ModelError(
            f"{type(module).__name__}: all weights must be on one device, got "
            f"{', '.join(sorted(map(str, places)))}; move it with .to(device)"
        )
    return next(iter(places), torch.device("cpu"))


def _on_cpu(module: nn.Module) -> nn.Module:
    return module if device_of(module).type == "cpu" else copy.deepcopy(module).cpu()


def _exported_costs(module: nn.Module, example: Tensor, changes: Sequence[Change]) -> Costs:
    from shrinkproof.artifacts.export import export_onnx

    module, example = _on_cpu(module), example.cpu()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            export_onnx(module, example, path, changes=changes)
        except ExportError as error:
            return _costs(module, example, None, reason=str(error))
        return _costs(module, example, path)


def _costs(module: nn.Module, example: Tensor, file: Path | None, *, reason: str = "") -> Costs:
    from shrinkproof.artifacts.sizes import file_bytes, macs, parameter_counts, zip_bytes

    parameters, nonzero = parameter_counts(module)
    return Costs(
        parameters=parameters,
        nonzero=nonzero,
        macs=macs(module, example),
        bytes=None if file is None else file_bytes(file),
        bytes_zip=None if file is None else zip_bytes(file),
        reason=reason,
    )


def _candidate_of(folder: Path) -> Candidate:
    from shrinkproof.artifacts.candidate import RECIPE

    path = folder / RECIPE
    try:
        return Candidate.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: must be the recipe of a candidate, got {type(error).__name__}: {error}; "
            "make the candidate again"
        ) from error


def _example_of(folder: Path) -> Tensor:
    """Return a blank input of the shape that the exported file takes."""
    import onnx
    import torch
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from shrinkproof.artifacts.candidate import NETWORK

    path = folder / NETWORK
    try:
        kind = onnx.load(str(path)).graph.input[0].type.tensor_type
    except (OSError, IndexError, DecodeError) as error:
        raise ModelError(
            f"{path}: must be the exported network of a candidate, got {type(error).__name__}: "
            f"{error}; make the candidate again"
        ) from error
    return torch.zeros((1, *(size.dim_value for size in kind.shape.dim[1:])))


def _table(before: Costs, after: Costs) -> Iterator[str]:
    yield f"{'':<16}{'before':>16}{'after':>16}{'after/before':>16}"
    rows = {
        "parameters": (before.parameters, after.parameters),
        "non-zeros": (before.nonzero, after.nonzero),
        "MACs": (before.macs, after.macs),
        "file bytes": (before.bytes, after.bytes),
        "zip bytes": (before.bytes_zip, after.bytes_zip),
    }
    for label, (old, new) in rows.items():
        ratio = f"{new / old:.4f}" if old and new is not None else "-"
        yield f"{label:<16}{_count(old):>16}{_count(new):>16}{ratio:>16}"
    for name, costs in (("before", before), ("after", after)):
        if costs.reason:
            yield from _wrapped(f"no file {name}: ", costs.reason)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _account(changes: Sequence[Change]) -> Iterator[str]:
    for position, change in enumerate(changes, start=1):
        yield f"step {position}: {change.step}"
        yield from _wrapped("  asked       ", _spelled(change.requested) or "nothing in numbers")
        yield from _wrapped("  reached     ", _spelled(change.achieved) or "nothing in numbers")
        reasons: dict[str, list[str]] = {}
        for layer, reason in change.untouched.items():
            reasons.setdefault(str(reason), []).append(layer)
        for reason, layers in reasons.items():
            shown = ", ".join(layers[:3]) + f" and {len(layers) - 3} more" * (len(layers) > 3)
            yield from _wrapped("  left alone  ", f"{shown}: {reason}")


def _spelled(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return f"({_spelled(value)})"
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )
