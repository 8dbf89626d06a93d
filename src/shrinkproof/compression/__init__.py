"""One network, compressed in one call, without a study."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shrinkproof import randomness
from shrinkproof.compression.compressed import (
    SCRATCH,
    CompressedModel,
    Costs,
    check_place,
    device_of,
)
from shrinkproof.compression.feeds import as_feed
from shrinkproof.compression.given import checked_example, own_copy
from shrinkproof.compression.steps import as_steps
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Context, ignore_note
from shrinkproof.records import Candidate, key_of
from shrinkproof.registry import identity_of
from shrinkproof.tasks import TASKS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SCRATCH", "CompressedModel", "Costs", "as_steps", "check_place", "compress"]


def compress(
    model: nn.Module,
    steps: Sequence[Any],
    *,
    example: Tensor,
    calibration: Any = None,
    training: Any = None,
    validation: Any = None,
    preprocess: Preprocess | None = None,
    task: str = "classification",
    seed: int = 0,
    scratch: Path | str | None = None,
    note: Callable[[Mapping[str, Any]], None] = ignore_note,
) -> CompressedModel:
    """Return a compressed copy of a network with the account of what was done.

    The given network is not edited, whatever its mode and device; frozen parameters stay frozen.
    A study with the same seed, network and images gives the same result.

    Images are given as an `ImageSet` with ``preprocess``, as a pair of preprocessed inputs
    (N, C, H, W) and targets (N,), as a torch ``Dataset`` of such pairs, as a ``DataLoader`` of one
    (its batch size and order are not used), or as an object with the members of
    ``protocols.Feed``. Only an `ImageSet` can be augmented.

    Args:
        model: the network, in any mode, on one device.
        steps: in order; each a compressor (``WeightPruning(ratio=0.5)``), a name
            (``"quantize.static"``), or a one-key mapping as in a study file
            (``{"prune.weights": {"ratio": 0.5}}``).
        example: one preprocessed input, (1, C, H, W) float32.
        calibration: images for observers and statistics.
        training: images for fine-tuning.
        validation: images that decide when training stops; never the ones that are reported.
        preprocess: from the uint8 pixels of an `ImageSet` to network input.
        task: what the network does.
        seed: root of all random streams.
        scratch: folder for what lets a killed training go on, which the caller removes when it is
            done; None keeps nothing.
        note: receives progress as plain JSON values.

    Raises:
        SpecError: a step is not registered or a setting is wrong.
        UsageError: an argument is given in a form that cannot serve.
        DataError: images are missing, empty, or do not fit the example.
        ModelError: the network cannot be copied, run on the example, or traced.
        CompressionError: a step lacks images, cannot do what was asked, or would destroy what an
            earlier one made.
    """
    from shrinkproof.artifacts.probe import FileProbe
    from shrinkproof.compressors.recipe import Recipe

    recipe = Recipe(as_steps(steps))
    original = own_copy(model)
    device = device_of(original)
    example = checked_example(original, example, device)
    context = Context(
        task=TASKS.get(task).of(original),
        example=example,
        device=device,
        # The first repeat of a study draws the same numbers.
        stream=functools.partial(randomness.stream, seed, "prepare", 0),
        calibration=as_feed(calibration, "calibration", example, preprocess),
        training=as_feed(training, "training", example, preprocess),
        validation=as_feed(validation, "validation", example, preprocess),
        note=note,
        scratch=None if scratch is None else Path(scratch),
        probe=FileProbe(original, example),
    )
    module, changes = recipe.apply(original, context)
    return CompressedModel(
        module=module,
        changes=changes,
        original=original,
        example=example,
        candidate=_candidate(original, module, recipe.steps, seed),
    )


def _candidate(
    original: nn.Module, module: nn.Module, steps: Sequence[Any], seed: int
) -> Candidate:
    """Return who the compressed network is: its weights speak for the images behind them."""
    import torch

    digest = hashlib.sha256()
    for network in (original, module):
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    identities = tuple(identity_of(step) for step in steps)
    parts = {"weights": digest.hexdigest(), "steps": list(identities), "seed": seed}
    return Candidate(
        key=key_of("compressed", parts),
        model=type(original).__name__,
        recipe="compress",
        steps=identities,
    )
