"""Class activation maps: a layer's channels, weighted and added up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.images import check_inputs, finite
from shrinkproof.attributions.layers import check_name, choose_layer
from shrinkproof.attributions.network import (
    activations,
    activations_and_gradients,
    as_array,
    network_of,
)
from shrinkproof.protocols import Explained
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import Tensor

# Shape suffixes: n images, C channels, P places.


class _OfLayer:
    """What maps of a layer's activations have in common."""

    name: ClassVar[str]

    def resolution(self, subject: Explained, inputs: NDArray[np.float32]) -> tuple[int, int]:
        """Return rows and columns of the layer's output."""
        layer = self._layer(subject, inputs)
        found = activations(self.name, network_of(self.name, subject), layer, inputs[:1])
        return int(found.shape[2]), int(found.shape[3])

    def _layer(self, subject: Explained, inputs: NDArray[np.float32]) -> str:
        """Return the name of the layer to look at."""
        module = network_of(self.name, subject)
        if subject.layer is None:
            return choose_layer(module, inputs).name
        check_name(subject.layer, module)
        return subject.layer


@component
class GradCam(_OfLayer):
    """Channels of a layer, weighted by the mean gradient of the class's logit.

    ``relu(sum_k w_k A_k)``, where ``A_k`` is channel k of the layer's output and ``w_k`` the mean
    over all places of ``d logit / d A_k``. One run forward and a part of one backward per batch.
    A map may be zero everywhere: nothing in the layer speaks for the class. In the imitation of
    integers gradients pass the rounding unchanged.

    Attributes:
        rectified: set negative values to 0, as published; False keeps what speaks against the
            class.

    Input: the network; inputs (n, C, H, W), target (n,).
    Output: maps (n, h, w) of the size of the layer's output, not negative if ``rectified``.
    Reference: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """

    name: ClassVar[str] = "gradcam"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    rectified: bool = True

    @property
    def is_signed(self) -> bool:
        """True where negative values are kept."""
        return not self.rectified

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, h, w); nothing is random."""
        del stream
        check_inputs(self.name, inputs, target)
        layer = self._layer(subject, inputs)
        module = network_of(self.name, subject)
        found, slope = activations_and_gradients(self.name, module, layer, inputs, target)
        weighted = (slope.mean((2, 3), keepdim=True) * found).sum(1)
        return finite(self.name, as_array(weighted.relu() if self.rectified else weighted))


@component
class GradCamPlusPlus(_OfLayer):
    """Channels of a layer, weighted by each place's share of the positive gradient.

    ``relu(sum_k w_k A_k)`` with ``w_k = sum_ij a_kij relu(g_kij)``, ``g = d logit / d A`` and
    ``a_kij = g^2 / (2 g^2 + g^3 sum_ab A_kab)``, that is ``1 / (2 + g sum_ab A_kab)``; 0 where g is
    0. It is made for layers behind a rectifier: elsewhere the denominator can come close to 0.

    Input: the network; inputs (n, C, H, W), target (n,).
    Output: maps (n, h, w) of the size of the layer's output, not negative.
    Differences: the factor ``exp(logit)`` of the published weights is left out; it scales the map
        of an image as a whole, and overflows.
    Reference: Chattopadhay et al. 2018, arXiv:1710.11063, equations 5, 10 and 19.
    """

    name: ClassVar[str] = "gradcam_plus_plus"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    @property
    def is_signed(self) -> bool:
        """Never: negative values are set to 0."""
        return False

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, h, w); nothing is random."""
        del stream
        check_inputs(self.name, inputs, target)
        layer = self._layer(subject, inputs)
        module = network_of(self.name, subject)
        found, slope = activations_and_gradients(self.name, module, layer, inputs, target)
        denominator = 2 + slope * found.sum((2, 3), keepdim=True)
        share = denominator.reciprocal().where(denominator != 0, 0.0)
        weight = (share * slope.relu()).sum((2, 3), keepdim=True)
        return finite(self.name, as_array((weight * found).sum(1).relu()))


@component
class EigenCam(_OfLayer):
    """First principal component of a layer's channels, without gradients.

    The activations of an image as a matrix (places, channels) are projected on its first right
    singular vector. The sign, which the decomposition leaves open, is that of a positive sum of
    the map; behind a rectifier the map is then nowhere negative, so two networks cannot differ by
    sign alone. The class plays no part.

    Input: the network; inputs (n, C, H, W), target (n,) is not read.
    Output: maps (n, h, w) of the size of the layer's output; signed, unless behind a rectifier.
    Differences: not centered, as published; pytorch-grad-cam subtracts the mean of each channel,
        which makes the sign arbitrary.
    Reference: Muhammad and Yeasin 2020, arXiv:2008.00299, section III.
    """

    name: ClassVar[str] = "eigencam"
    version: ClassVar[int] = 1
    is_of_class: ClassVar[bool] = False
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "activations"

    @property
    def is_signed(self) -> bool:
        """True: the layer may have negative outputs."""
        return True

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, h, w); nothing is random."""
        del stream
        check_inputs(self.name, inputs, target)
        layer = self._layer(subject, inputs)
        module = network_of(self.name, subject)
        found = activations(self.name, module, layer, inputs)
        finite(self.name, as_array(found.flatten(2)))
        component_nP = _first_component(found.flatten(2).double())
        return finite(self.name, as_array(component_nP.view(-1, *found.shape[2:])))


def _first_component(values_nCP: Tensor) -> Tensor:
    """Return the projection of each image's places on its first right singular vector, (n, P)."""
    import torch

    channels, places = values_nCP.shape[1:]
    # By the eigenvectors of the smaller product; the last one belongs to the largest eigenvalue.
    if channels <= places:
        vectors = torch.linalg.eigh(values_nCP @ values_nCP.mT).eigenvectors
        projected = (vectors[:, :, -1:].mT @ values_nCP).squeeze(1)
    else:
        squares, vectors = torch.linalg.eigh(values_nCP.mT @ values_nCP)
        projected = vectors[:, :, -1] * squares[:, -1:].clamp(min=0).sqrt()
    return torch.where(projected.sum(1, keepdim=True) < 0, -projected, projected)
