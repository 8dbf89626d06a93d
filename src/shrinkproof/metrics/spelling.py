"""Names of metrics with settings: ``calibration.ece[bins=10]``.

In brackets stand ``field=value`` pairs, separated by commas. A value is a JSON scalar; words need
no quotes. Fields that are left out keep their defaults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import pydantic

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import known_metric
from shrinkproof.metrics.naming import MetricName
from shrinkproof.protocols import Better
from shrinkproof.registry import fields_of

_SPELLED: Final = re.compile(r"(?P<name>[^\[\]\s@]+)(\[(?P<settings>.*)\])?", re.DOTALL)
_PAIR: Final = re.compile(
    r'\s*(?P<field>[A-Za-z_]\w*)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s,"\[\]]+)\s*(?P<end>,|$)'
)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]*")
_LITERALS: Final = ("true", "false", "null")


def metric_of(text: str) -> Any:
    """Return the metric that a name with or without settings means.

    Args:
        text: ``calibration.ece`` or ``calibration.ece[bins=10]``.

    Raises:
        UnknownNameError: the metric is not registered, or it has no such field.
        UsageError: the brackets cannot be read, or a value is wrong.
        PluginError: the plugin behind the name does not import.
    """
    name, settings = _parsed(text)
    cls = METRICS.get(name)
    known = getattr(cls, "__pydantic_fields__", {})
    for field in settings:
        if field not in known:
            raise UnknownNameError(f"setting of {name}", field, known)
    try:
        return METRICS.create(name, settings)
    except pydantic.ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise UsageError(f"metric {text!r}: {problems}; correct the value") from None


def described(name: str) -> MetricName | None:
    """Return what is known of a name with its settings and prefixes; plugins describe themselves.

    Raises:
        PluginError: the plugin behind the name does not import.
    """
    return known_metric(name, _registered)


def _registered(name: str) -> MetricName | None:
    if name not in METRICS:
        return None
    cls = METRICS.get(name)
    better: Better = getattr(cls, "better", Better.NONE)
    summary = (cls.__doc__ or "").partition("\n")[0]
    return MetricName(name, getattr(cls, "unit", ""), better, summary, per_condition=True)


def name_of(text: str) -> str:
    """Return the registered name in a name with or without settings; nothing is imported.

    Raises:
        UsageError: the brackets cannot be read.
    """
    return _parsed(text)[0]


def spelled(metric: Any) -> str:
    """Return the one spelling of a metric: only settings that are not the defaults, by field.

    Equal metrics have equal spellings, and `metric_of` makes an equal metric of them.
    """
    cls = type(metric)
    defaults = {
        name: info.get_default(call_default_factory=True)
        for name, info in getattr(cls, "__pydantic_fields__", {}).items()
        if not info.is_required()
    }
    pairs = [
        f"{field}={_value_text(value)}"
        for field, value in (
            fields_of(metric) if hasattr(cls, "__pydantic_fields__") else {}
        ).items()
        if field not in defaults or getattr(metric, field) != defaults[field]
    ]
    return f"{cls.name}[{','.join(pairs)}]" if pairs else str(cls.name)


def _parsed(text: str) -> tuple[str, Mapping[str, Any]]:
    found = _SPELLED.fullmatch(text)
    if found is None:
        raise UsageError(f"metric: must be 'name' or 'name[field=value,...]', got {text!r}")
    settings = found["settings"]
    return found["name"], {} if settings is None else _pairs(settings, text)


def _pairs(settings: str, text: str) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    position, is_open = 0, True
    while is_open:
        found = _PAIR.match(settings, position)
        if found is None:
            raise UsageError(
                f"metric {text!r}: settings must be field=value, separated by commas, got "
                f"{settings[position:]!r}; write for example calibration.ece[bins=10]"
            )
        if found["field"] in pairs:
            raise UsageError(
                f"metric {text!r}: each field must stand there once, got {found['field']} twice"
            )
        pairs[found["field"]] = _scalar(found["value"], text)
        position, is_open = found.end(), found["end"] == ","
    return pairs


def _scalar(value: str, text: str) -> Any:
    try:
        scalar = json.loads(value, parse_constant=_refuse)
    except ValueError:
        if _WORD.fullmatch(value):
            return value
        raise UsageError(
            f"metric {text!r}: a value must be a number, true, false, null or a word, got {value!r}"
        ) from None
    return scalar


def _refuse(constant: str) -> Any:
    """NaN and infinity are no JSON."""
    raise ValueError(constant)


def _value_text(value: Any) -> str:
    is_word = isinstance(value, str) and _WORD.fullmatch(value) and value not in _LITERALS
    return str(value) if is_word else json.dumps(value, separators=(",", ":"))


def _problem(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"])
    rule = item["msg"].removeprefix("Input ").removeprefix("should ")
    return f"{field}: must {rule}, got {json.dumps(item['input'])}"
