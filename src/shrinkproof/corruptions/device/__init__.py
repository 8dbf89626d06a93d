"""The same corruptions on torch tensors, where they are: on a GPU, or on any other device.

Constants and random draws are those of the numpy classes, the draws made on the host, so the
pixels agree within ``TOLERANCE``. This is the only part of the corruptions that imports torch.
"""

from __future__ import annotations

from shrinkproof.corruptions.device.apply import corrupt_on_device, corrupted_batches
from shrinkproof.corruptions.device.twins import TOLERANCE, TWINS

__all__ = ["TOLERANCE", "TWINS", "corrupt_on_device", "corrupted_batches"]
