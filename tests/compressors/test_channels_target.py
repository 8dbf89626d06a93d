import json

import pydantic
import pytest

from shrinkproof.compressors.channels.target import Target, parse_bytes
from shrinkproof.registry import fields_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2MB", 2_000_000),
        ("500 kB", 500_000),
        ("1.5MiB", 1_572_864),
        ("1 GiB", 2**30),
        ("0.5 gb", 500_000_000),
        ("12 B", 12),
    ],
)
def test_sizes_are_read_in_decimal_and_binary_units(text, expected):
    assert parse_bytes(text) == expected
    assert Target(bytes=text).bytes == expected


@pytest.mark.parametrize("text", ["2", "MB", "2 MBit", "-1 MB", "2,5 MB", ""])
def test_other_words_are_no_sizes(text):
    with pytest.raises(ValueError, match="a number with a unit of B, kB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of macs, params, bytes, latency_ratio, got none"),
        ({"macs": 0.5, "bytes": 10}, "got macs and bytes"),
        ({"macs": 1.0}, "less than 1"),
        ({"params": 0.0}, "greater than 0"),
        ({"bytes": 0}, "greater than or equal to 1"),
        ({"bytes": "0 MB"}, "greater than or equal to 1"),
        ({"bytes": True}, "valid integer"),
        ({"latency_ratio": 50}, "less than 1"),
        ({"flops": 0.5}, "[Uu]nexpected"),
    ],
)
def test_wrong_targets_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        Target(**fields)


@pytest.mark.parametrize(
    ("target", "kind", "value", "is_measured"),
    [
        (Target(macs=0.5), "macs", 0.5, False),
        (Target(params=0.25), "params", 0.25, False),
        (Target(bytes="3kB"), "bytes", 3000, True),
        (Target(latency_ratio=0.4), "latency_ratio", 0.4, True),
    ],
)
def test_a_target_is_one_number(target, kind, value, is_measured):
    assert (target.kind, target.value, target.is_measured) == (kind, value, is_measured)
    again = pydantic.TypeAdapter(Target).validate_json(json.dumps(fields_of(target)))
    assert again == target
