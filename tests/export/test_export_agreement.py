"""Agreement of two forms, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.errors import ExportError
from shrinkproof.export.agreement import compared

ONE = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], dtype=np.float32)


def both(other, condition="fog:3", **settings):
    return compared(("a", other), ("b", ONE), condition, **settings)


def test_classes_and_logits_are_compared_by_hand():
    other = ONE + np.array([[0.0, 0.0], [0.0, -0.5], [1.5, 0.0]], dtype=np.float32)
    found = both(other, is_exact=True)
    assert (found.images, found.same, found.difference) == (3, 2, 1.5)
    assert found.limit == pytest.approx(4.0e-3 + 1e-6)
    assert not found.is_met
    assert not found.is_exact
    with pytest.raises(
        ExportError, match=r"a: must agree with the b \(logits within 0.004\), got 2"
    ):
        found.check()


def test_logits_may_differ_by_the_order_of_sums():
    found = both(ONE + np.float32(1e-5), is_exact=True)
    assert found.is_met
    found.check()
    assert both(ONE, is_exact=True).is_exact


def test_classes_decide_where_integers_are_rounded():
    assert both(ONE + np.float32(0.4), is_exact=False, condition="clean").is_met
    found = both(ONE[:, ::-1], is_exact=False, condition="clean")
    assert (found.same, found.limit, found.is_met) == (0, None, False)
    assert found.rule == "same class for 0.99 of the images"


def test_under_corruption_the_agreement_of_rounded_integers_is_stated():
    found = both(ONE[:, ::-1], is_exact=False, condition="fog:3")
    assert (found.same, found.is_met, found.rule) == (0, True, "stated only")
    assert not both(ONE[:, ::-1], is_exact=True, condition="fog:3").is_met


@pytest.mark.parametrize("is_exact", [True, False])
def test_what_is_no_number_never_agrees(is_exact):
    broken = ONE.copy()
    broken[0, 0] = np.nan
    found = both(broken, is_exact=is_exact)
    assert not found.is_met
    assert found.as_json()["difference"] is None


def test_other_shapes_are_refused():
    with pytest.raises(ExportError, match=r"a: logits must have the shape of the b, \(3, 2\), got"):
        both(ONE[:2], is_exact=True)
