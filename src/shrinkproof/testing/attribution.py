"""Conformance of heat maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions import ATTRIBUTIONS
from shrinkproof.errors import UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Explained
from shrinkproof.randomness import stream
from shrinkproof.testing.component import check_component, example_settings, refuses
from shrinkproof.testing.toys import tiny_images, tiny_model

if TYPE_CHECKING:
    from torch import Tensor, nn

NEEDS: Final = ("gradients", "activations", "predictions")

_ROUNDING: Final = 1e-4
"""Of the largest value: a network computes batches of another size in another order, in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class _Explained:
    """A candidate that heat maps are made of."""

    module: nn.Module | None
    layer: str | None
    black: NDArray[np.float32]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def tiny_explained(*, layer: str | None = None, has_module: bool = True) -> Explained:
    """Return `tiny_model` as a candidate that heat maps are made of.

    Args:
        layer: name of the layer to look at; None leaves the choice to the method.
        has_module: whether the network can be had, or only its predictions.
    """
    import torch

    # One for its predictions alone: nothing that is done to the other may change them.
    model, exported = tiny_model(), tiny_model()

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: Tensor = exported(torch.from_numpy(inputs))
        return np.asarray(logits.numpy())

    black = Preprocess()(np.zeros((1, 1, 1, 3), dtype=np.uint8)).reshape(3)
    return _Explained(model if has_module else None, layer, black, predict)


def check_attribution(cls: type[Any], **settings: Any) -> None:
    """Check a heat map of tiny images and a tiny network.

    Maps are (n, h, w) float32, finite, and not negative where the method says so; a map depends
    only on its image, its class and the stream, not on the batch; the inputs and the network stay
    untouched, without gradients or hooks, in the mode in which they were; what needs only
    predictions works without a network, and everything else says that it cannot.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    method = check_component(cls, settings, ATTRIBUTIONS, ("Input", "Output", "Reference"))
    name = cls.__name__
    assert cls.needs in NEEDS, f"{name}: needs must be one of {NEEDS}, got {cls.needs!r}"
    assert isinstance(method.is_signed, bool), f"{name}: is_signed must be true or false"
    inputs, target = _inputs()
    subject = tiny_explained()
    maps = _checked_maps(name, method, subject, inputs, target)
    again = _maps(method, tiny_explained(), inputs, target)
    assert np.array_equal(maps, again), f"{name}: the same stream must give the same maps"
    some = np.array([4, 0, 2])
    part = _maps(method, subject, inputs[some], target[some])
    assert np.allclose(part, maps[some], rtol=0, atol=_ROUNDING * np.abs(maps).max()), (
        f"{name}: a map must depend only on its image and class, not on the batch"
    )
    rows, columns = method.resolution(subject, inputs)
    fits = 1 <= rows <= maps.shape[1] and 1 <= columns <= maps.shape[2]
    assert fits, (
        f"{name}: resolution must be between (1, 1) and the size of the maps, "
        f"{maps.shape[1:]}, got {(rows, columns)}"
    )
    _check_predictions_only(name, method, inputs, target)


def _inputs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images = tiny_images(count=6)
    return Preprocess()(images.images[np.arange(6)]), images.labels


def _maps(
    method: Any, subject: Any, inputs: NDArray[np.float32], target: NDArray[np.int64]
) -> NDArray[np.float32]:
    maps: NDArray[np.float32] = method.maps(
        subject, inputs, target, stream=partial(stream, "conformance")
    )
    return maps


def _checked_maps(
    name: str, method: Any, subject: Any, inputs: NDArray[np.float32], target: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the maps of a network in training mode after checking what they leave behind."""
    subject.module.train()
    kept = inputs.copy(), target.copy(), _snapshot(subject.module)
    maps = _maps(method, subject, inputs, target)
    assert np.array_equal(inputs, kept[0]), f"{name}: the inputs must stay untouched"
    assert np.array_equal(target, kept[1]), f"{name}: the classes must stay untouched"
    assert _snapshot(subject.module) == kept[2], (
        f"{name}: the network must stay as it was: weights, gradients, hooks, mode"
    )
    subject.module.eval()
    assert maps.ndim == 3, f"{name}: maps must be (n, h, w), got {maps.shape}"
    assert len(maps) == len(inputs), f"{name}: must return one map per image, got {len(maps)}"
    assert maps.dtype == np.float32, f"{name}: maps must be float32, got {maps.dtype}"
    assert np.isfinite(maps).all(), f"{name}: maps must be finite"
    assert method.is_signed or maps.min() >= 0, f"{name}: maps must be signed or not negative"
    return maps


def _snapshot(module: nn.Module) -> object:
    state = {k: v.numpy().tobytes() for k, v in module.state_dict().items()}
    parts = [(part.training, len(part._forward_hooks)) for part in module.modules()]
    weights = [(p.requires_grad, p.grad is None) for p in module.parameters()]
    return state, parts, weights


def _check_predictions_only(
    name: str, method: Any, inputs: NDArray[np.float32], target: NDArray[np.int64]
) -> None:
    whole, blind = tiny_explained(), tiny_explained(has_module=False)
    if method.needs == "predictions":
        same = np.array_equal(
            _maps(method, whole, inputs, target), _maps(method, blind, inputs, target)
        )
        assert same, f"{name}: what needs only predictions must not look at the network"
        return
    refuses(
        lambda: _maps(method, blind, inputs, target),
        UsageError,
        f"{name}: without a network it must raise a UsageError",
    )
