"""The GPUs of this machine, as its processes name them."""

from __future__ import annotations

import os
from itertools import takewhile

from shrinkproof.environment import capture


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    These are the ones that the variable names, else all that the NVIDIA driver sees.
    """
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return tuple(str(number) for number in range(len(capture()["gpus"])))
    names = (name.strip() for name in told.split(","))
    # CUDA ends the list at the first name that is none; -1 hides all that follow.
    return tuple(takewhile(lambda name: name not in ("", "-1"), names))
