"""What goes into a heat map and comes out of it: checks, images without content, scores."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.protocols import Explained

# Shape suffixes: n images, C channels, H height, W width, K classes.

Empty = Literal["black", "zero", "mean", "blur"]
"""An image without content: black, zero as the network is given it (the mean color of the training
images, for most networks), the image's own mean color, or the image blurred."""

Output = Literal["logit", "probability"]
"""What a perturbation changes: the logit of the class, or its softmax probability."""

_BLUR = 8.0
"""The shorter side divided by the standard deviation of the blur: shapes go, colors stay."""


def check_inputs(method: str, inputs: NDArray[np.float32], target: NDArray[np.int64]) -> None:
    """Refuse inputs and classes that are not what the contract says.

    Raises:
        DataError: shape or type is wrong, there is no image, or a class is negative.
    """
    if inputs.ndim != 4 or inputs.dtype != np.float32 or not inputs.size:
        raise DataError(
            f"{method}: inputs must be (n, C, H, W) float32 with at least one image, got "
            f"{inputs.shape} {inputs.dtype}"
        )
    if target.shape != inputs.shape[:1] or target.dtype != np.int64:
        raise DataError(
            f"{method}: target must be ({len(inputs)},) int64, one class per image, got "
            f"{target.shape} {target.dtype}"
        )
    if target.min() < 0:
        raise DataError(f"{method}: target must be 0 or more, got {target.min()}")


def check_logits(method: str, shape: tuple[int, ...], target: NDArray[np.int64]) -> None:
    """Refuse outputs that hold no logit of each image's class.

    Raises:
        DataError: the output is not (n, classes), or a class is missing.
    """
    if len(shape) != 2 or shape[0] != len(target) or target.max() >= shape[1]:
        raise DataError(
            f"{method}: the network must give ({len(target)}, classes) logits with a class "
            f"{target.max()}, got an output of shape {shape}; do the classes of the data and of "
            "the network agree?"
        )


def check_finite(method: str, values: NDArray[Any], what: str = "the network's logits") -> None:
    """Refuse values of images, (n, ...), that are no numbers.

    Maps may be finite where logits are not: a gradient does not know an offset.

    Raises:
        DataError: not all of them are finite.
    """
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"{method}: {what} must be finite, got NaN or infinity for {len(bad)} of "
            f"{len(values)} images, first at position {bad[0]}; the network is numerically broken "
            "for them"
        )


def finite(method: str, maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the maps, (n, h, w), if they are numbers.

    Raises:
        DataError: a map is not finite.
    """
    check_finite(method, maps, "maps")
    return maps


def without_content(
    kind: Empty, subject: Explained, inputs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return an image without content for each input, (n, C, H, W) float32."""
    if kind == "blur":
        from scipy.ndimage import gaussian_filter

        spread = min(inputs.shape[2:]) / _BLUR
        blurred: NDArray[np.float32] = gaussian_filter(
            inputs, sigma=(0, 0, spread, spread), mode="reflect"
        )
        return blurred
    if kind == "mean":
        color = inputs.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    elif kind == "zero":
        color = np.zeros((1, 1, 1, 1))
    else:
        color = np.reshape(subject.black, (1, -1, 1, 1))
        if color.shape[1] != inputs.shape[1]:
            raise DataError(
                f"black: must be ({inputs.shape[1]},), one value per channel of the inputs, got "
                f"{subject.black.shape}"
            )
    return np.broadcast_to(color.astype(np.float32), inputs.shape)


def score(
    method: str,
    subject: Explained,
    inputs: NDArray[np.float32],
    target: NDArray[np.int64],
    of: Output,
) -> NDArray[np.float64]:
    """Return the logit or the probability of each image's class, (n,).

    Raises:
        DataError: the network gives no finite logits of these classes.
    """
    logits_nK = np.asarray(subject.predict(inputs), dtype=np.float64)
    check_logits(method, logits_nK.shape, target)
    check_finite(method, logits_nK)
    rows = np.arange(len(target))
    if of == "logit":
        return np.asarray(logits_nK[rows, target])
    prob_nK = np.exp(logits_nK - logits_nK.max(axis=1, keepdims=True))
    return np.asarray(prob_nK[rows, target] / prob_nK.sum(axis=1))
