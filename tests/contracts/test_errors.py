import pickle

import pytest

from shrinkproof import errors
from shrinkproof.errors import (
    MissingExtraError,
    ShrinkproofError,
    SpecError,
    UnknownNameError,
    UnsupportedLayerError,
    suggestions,
)

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ShrinkproofError)
]


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    for cls in ALL:
        assert cls.__name__ in (errors.__doc__ or "")
    assert len(ALL) == 13
    assert issubclass(UnknownNameError, SpecError)
    assert issubclass(UnsupportedLayerError, errors.ModelError)


def test_spec_error_carries_one_line_per_problem():
    error = SpecError(iter(["a.yaml:1:1: x", "a.yaml:2:1: y"]))
    assert error.problems == ("a.yaml:1:1: x", "a.yaml:2:1: y")
    assert str(error) == "a.yaml:1:1: x\na.yaml:2:1: y"


def test_an_unknown_name_suggests_what_looks_alike():
    error = UnknownNameError("metric", "acuracy.top1", ["calibration.ece", "accuracy.top1"])
    assert error.suggestions == ("accuracy.top1",)
    assert str(error) == "unknown metric 'acuracy.top1'; did you mean 'accuracy.top1'?"


def test_an_unknown_name_lists_what_is_known_where_nothing_looks_alike():
    assert str(UnknownNameError("engine", "zzz", ["b", "a"])) == "unknown engine 'zzz'; known: a, b"
    assert str(UnknownNameError("engine", "zzz", [])) == "unknown engine 'zzz'; known: none"


def test_two_suggestions_at_most_best_first():
    assert suggestions("accuracy.top", ["accuracy.top1", "accuracy.top5", "accuracy.topk"])[0]
    assert len(suggestions("aaa", ["aaab", "aaac", "aaad"])) == 2


def test_missing_extra_says_the_command():
    error = MissingExtraError("timm is absent.", command="pip install timm")
    assert str(error) == "timm is absent. Repair it with: pip install timm"
    assert error.command == "pip install timm"


@pytest.mark.parametrize(
    "error",
    [
        SpecError(["a", "b"]),
        UnknownNameError("metric", "acuracy.top1", ["accuracy.top1"]),
        MissingExtraError("x is absent.", command="pip install x"),
        *(
            cls("text")
            for cls in ALL
            if cls not in (SpecError, UnknownNameError, MissingExtraError)
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_worker_can_send_every_error_unchanged(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
