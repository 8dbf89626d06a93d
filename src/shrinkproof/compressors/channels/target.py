"""What a network may cost after a step, instead of how much the step removes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import pydantic

from shrinkproof.registry import OpenFraction, component

_UNITS: Final = {
    **{"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30},
}
_SIZE: Final = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-z]+)\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Return the bytes that ``2MB``, ``500 kB`` or ``1.5MiB`` stand for.

    A kB has 1000 bytes, a KiB 1024. Fractions of a byte are dropped.

    Raises:
        ValueError: the text is no number with a unit.
    """
    found = _SIZE.fullmatch(text)
    if not found or found["unit"].lower() not in _UNITS:
        raise ValueError(
            f"must be bytes or a number with a unit of B, kB, MB, GB, KiB, MiB, GiB, got {text!r}"
        )
    return int(float(found["number"]) * _UNITS[found["unit"].lower()])


def _whole_bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


_BYTES_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}],
    "unit": "bytes",
}

Bytes = Annotated[
    int,
    pydantic.Field(ge=1),
    pydantic.BeforeValidator(_whole_bytes),
    pydantic.WithJsonSchema(_BYTES_SCHEMA),
]
"""A number of bytes, or text such as ``2MB``."""


@component
class Target:
    """What a network may cost after the step; exactly one of the four.

    Attributes:
        macs: multiply-accumulates of one image, as a fraction of those of the model that enters
            the step, 0 to 1, both excluded.
        params: parameters, as such a fraction.
        bytes: size of the exported file after the step, as a number or as text such as ``2MB``
            (1000 kB) or ``1.5MiB`` (1536 KiB).
        latency_ratio: median time of one inference of the exported file, as a fraction of that
            of the original, 0 to 1, both excluded.
    """

    macs: OpenFraction | None = None
    params: OpenFraction | None = None
    bytes: Bytes | None = None
    latency_ratio: OpenFraction | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> Target:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"target must state exactly one of {', '.join(_KINDS)}, got "
                f"{' and '.join(given) or 'none'}"
            )
        return self

    @property
    def kind(self) -> str:
        """Which of the four is stated."""
        return next(name for name in _KINDS if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """The stated number."""
        value: float = getattr(self, self.kind)
        return value

    @property
    def is_measured(self) -> bool:
        """Whether exported files have to be measured; the others are counted."""
        return self.kind in ("bytes", "latency_ratio")


_KINDS: Final = ("macs", "params", "bytes", "latency_ratio")
