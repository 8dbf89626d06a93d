from __future__ import annotations

import pydantic
import pytest

from shrinkproof.data.splits import DataRef, DataSpec, SplitRule
from shrinkproof.registry import fields_of


def messages(**fields: object) -> list[tuple[tuple[object, ...], str]]:
    with pytest.raises(pydantic.ValidationError) as caught:
        DataSpec(**fields)
    return [(e["loc"], e["msg"]) for e in caught.value.errors()]


def test_a_plain_string_is_the_reference() -> None:
    spec = DataSpec(train="digits", split={"from": "cifar10:test", "report": "rest"})
    assert spec.train == DataRef(use="digits")
    assert spec.split == SplitRule(from_=DataRef(use="cifar10:test"), report="rest")
    assert spec.names == ("train", "report")


def test_a_mapping_has_the_fields() -> None:
    given = {
        "use": "arrays:a.npz",
        "count": 5,
        "metadata": "m.csv",
        "group": "drive",
        "slices": ["night"],
    }
    spec = DataSpec(calibrate=given)
    assert spec.calibrate == DataRef(
        use="arrays:a.npz", count=5, metadata="m.csv", group="drive", slices=("night",)
    )


def test_json_round_trip() -> None:
    spec = DataSpec(
        train={"use": "digits", "count": 7, "slices": ["a", "b"]},
        split={"from": "digits", "select": 10, "report": "rest", "seed": 3},
        preset="cifar",
    )
    assert DataSpec(**fields_of(spec)) == spec
    assert len({spec, DataSpec(**fields_of(spec))}) == 1


def test_sizes_keep_the_order_of_the_splits() -> None:
    rule = SplitRule(from_="digits", report="rest", train=5, select=2)
    assert list(rule.sizes.items()) == [("train", 5), ("select", 2), ("report", "rest")]


def test_batch_auto() -> None:
    assert DataSpec(train="digits", batch="auto").batch == "auto"
    assert DataSpec(train="digits", batch=32).batch == 32


@pytest.mark.parametrize(
    ("fields", "place", "text"),
    [
        ({}, (), "must name at least one split"),
        (
            {"train": "a", "split": {"from": "b", "train": 3}},
            (),
            "each split may be given once, got train",
        ),
        (
            {"split": {"from": "b", "train": "rest", "report": "rest"}},
            ("split",),
            "'rest' may appear once, got it for train and report",
        ),
        ({"split": {"from": "b"}}, ("split",), "must give a size to at least one of train"),
        ({"split": {"report": 3}}, ("split", "from"), "required"),
        ({"split": {"from": "b", "train": True}}, ("split", "train"), "'rest', got True"),
        ({"split": {"from": "b", "train": 0}}, ("split", "train"), "at least 1, or 'rest', got 0"),
        ({"split": {"from": "b", "train": 0.5}}, ("split", "train"), "got 0.5"),
        ({"split": 7}, ("split",), "must be a mapping with 'from' and sizes, got 7"),
        ({"train": 7}, ("train",), "must be a reference such as 'digits', or a mapping"),
        ({"train": {"use": ""}}, ("train", "use"), "at least 1 character"),
        ({"train": {"use": "a", "cout": 1}}, ("train", "cout"), "Unexpected"),
        ({"train": {"use": "a", "count": 0}}, ("train", "count"), "greater than or equal to 1"),
        ({"train": "a", "batch": 0}, ("batch",), "must be a number of images of at least 1"),
        ({"tran": "a"}, ("tran",), "Unexpected"),
    ],
)
def test_problems_name_their_place(
    fields: dict[str, object], place: tuple[str, ...], text: str
) -> None:
    found = messages(**fields)
    assert any(loc == place and text in message for loc, message in found), found
