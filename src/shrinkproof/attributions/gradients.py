"""Gradients at the input, at full resolution: times the input, or gathered along a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.attributions.images import Empty, check_inputs, finite, without_content
from shrinkproof.attributions.network import input_gradients, network_of
from shrinkproof.protocols import Explained
from shrinkproof.registry import Fraction, component


class _OfInput:
    """What maps of the input's own size have in common."""

    name: ClassVar[str]

    @property
    def is_signed(self) -> bool:
        """True: negative values speak against the class."""
        return True

    def resolution(self, subject: Explained, inputs: NDArray[np.float32]) -> tuple[int, int]:
        """Return rows and columns of the inputs."""
        network_of(self.name, subject)
        return int(inputs.shape[2]), int(inputs.shape[3])


@component
class GradientTimesInput(_OfInput):
    """Gradient of the class's logit times the input, optionally smoothed by noise.

    ``sum_c x_c g_c`` with ``g = d logit / d x``. With noise, g is the mean over ``samples`` copies
    of the image with Gaussian noise (SmoothGrad). The input is what the network is given, after
    preprocessing, so a pixel of the mean color has the value 0 in most networks.

    Attributes:
        samples: noisy copies of each image; 1 without noise.
        noise: standard deviation of the noise, as a part of the range of values of the image; 0
            for none. The same noise is shown to every image and network.

    Input: the network; inputs (n, C, H, W), target (n,).
    Output: maps (n, H, W), signed.
    Reference: Shrikumar et al. 2017, arXiv:1605.01713; Smilkov et al. 2017, arXiv:1706.03825.
    """

    name: ClassVar[str] = "gradient_x_input"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    samples: Annotated[int, pydantic.Field(ge=1)] = 1
    noise: Fraction = 0.0

    @pydantic.model_validator(mode="after")
    def _noise_makes_samples_differ(self) -> GradientTimesInput:
        if self.samples > 1 and not self.noise:
            raise ValueError(
                f"samples must be 1 without noise, got {self.samples}; set noise, 0.15 for example"
            )
        return self

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, H, W); the noise comes from the stream ``noise``."""
        check_inputs(self.name, inputs, target)
        module = network_of(self.name, subject)
        generator = stream("noise")
        spread = self.noise * np.ptp(inputs, axis=(1, 2, 3))[:, None, None, None]
        gradient = np.zeros(inputs.shape, dtype=np.float64)
        for _ in range(self.samples):
            shown = inputs
            if self.noise:
                noise = generator.normal(size=inputs.shape[1:])
                shown = (inputs + spread * noise).astype(np.float32)
            gradient += input_gradients(self.name, module, shown, target)
        product = (gradient / self.samples * inputs).sum(axis=1)
        return finite(self.name, product.astype(np.float32))


@component
class IntegratedGradients(_OfInput):
    """Gradients along the straight way from an image without content to the image.

    ``sum_c (x_c - b_c) * integral of d logit / d x_c`` along ``b + t (x - b)``, t from 0 to 1, by
    Gauss-Legendre quadrature. The values of a map add up to ``logit(x) - logit(b)``, up to the
    error of the quadrature.

    Attributes:
        steps: points of the quadrature; each costs one run forward and one backward.
        baseline: the image without content: ``black``, ``zero`` (as the network is given it),
            ``mean`` (the image's own mean color) or ``blur`` (the image blurred).

    Input: the network; inputs (n, C, H, W), target (n,).
    Output: maps (n, H, W), signed.
    Reference: Sundararajan et al. 2017, arXiv:1703.01365, equation 1.
    """

    name: ClassVar[str] = "integrated_gradients"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    steps: Annotated[int, pydantic.Field(ge=1, le=1000)] = 32
    baseline: Empty = "black"

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, H, W); nothing is random."""
        del stream
        check_inputs(self.name, inputs, target)
        module = network_of(self.name, subject)
        start = without_content(self.baseline, subject, inputs)
        way = inputs - start
        gradient = np.zeros(inputs.shape, dtype=np.float64)
        for position, weight in zip(*np.polynomial.legendre.leggauss(self.steps), strict=True):
            # from -1..1 to 0..1, which halves the weights
            shown = start + np.float32((position + 1) / 2) * way
            gradient += weight / 2 * input_gradients(self.name, module, shown, target)
        return finite(self.name, (gradient * way).sum(axis=1).astype(np.float32))
