from __future__ import annotations

import numpy as np

from shrinkproof.data.contamination import contamination, overlaps


def test_overlaps_counts_images_of_the_second(make_images) -> None:
    images = make_images([0] * 10, copies_of={9: 3})
    first, second = images.take(np.arange(5)), images.take(np.arange(3, 10))
    # 3 and 4, and 9 which has the pixels of 3.
    assert overlaps(first, second) == 3
    assert overlaps(second, first) == 2
    assert overlaps(first, images.take(np.arange(5, 9))) == 0


def test_disjoint_splits_are_clean_and_calibrate_may_lie_in_train(make_images) -> None:
    images = make_images([0] * 12)
    sets = {
        "train": images.take(np.arange(6)),
        "calibrate": images.take(np.arange(3)),
        "select": images.take(np.arange(6, 9)),
        "report": images.take(np.arange(9, 12)),
    }
    assert contamination(sets, []) == {}
    assert contamination(sets, [sets["train"]]) == {}


def test_every_overlap_is_stated_with_counts(make_images) -> None:
    images = make_images([0] * 20)
    sets = {
        "train": images.take(np.arange(8)),
        "calibrate": images.take(np.arange(8, 10)),
        "select": images.take(np.arange(6, 12)),
        "report": images.take(np.arange(11, 20)),
    }
    assert contamination(sets, []) == {
        "select": (
            "2 of 6 images are also in train; 2 of 6 images are also in calibrate; "
            "1 of 6 images are also in report"
        ),
        "report": "1 of 9 images are also in select",
    }


def test_what_the_model_has_seen(make_images) -> None:
    images = make_images([0] * 10)
    sets = {"report": images.take(np.arange(4))}
    known = images.take(np.arange(3, 10))
    assert contamination(sets, [known]) == {
        "report": "1 of 4 images were seen by the model in training (toys)"
    }
    assert contamination(sets, None) == {"report": "the model does not declare what it has seen"}
