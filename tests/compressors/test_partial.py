"""A training left off on the way is the whole training at that epoch."""

from __future__ import annotations

import pytest

from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.fold import Fold
from shrinkproof.compressors.partial import PartialTraining, checkpoints_of, whole_of
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.testing.toys import tiny_context, tiny_model

WHOLE = FineTuning(epochs=4, learning_rate=0.05, batch=8)


def weights(steps):
    model, changes = Recipe(steps).apply(tiny_model(), tiny_context())
    return {name: value.clone() for name, value in model.state_dict().items()}, changes


def equal(a, b) -> bool:
    return all(bool((a[name] == b[name]).all()) for name in a)


def test_the_last_epoch_is_the_whole_training() -> None:
    whole, _ = weights([WHOLE])
    part, changes = weights([PartialTraining(training=WHOLE, epoch=4)])
    assert equal(whole, part)
    assert changes[0].achieved["epochs"] == 4


def test_the_rate_follows_the_whole_schedule() -> None:
    part, _ = weights([PartialTraining(training=WHOLE, epoch=2)])
    short, _ = weights([FineTuning(epochs=2, learning_rate=0.05, batch=8)])
    assert not equal(part, short)


def test_parts_go_on_from_each_other_and_the_whole_from_them(tmp_path) -> None:
    import dataclasses

    def kept(steps):
        notes = []
        context = dataclasses.replace(
            tiny_context(), scratch=tmp_path, note=lambda values: notes.append(dict(values))
        )
        model, _ = Recipe(steps).apply(tiny_model(), context)
        fresh = sum("seconds_left" in note for note in notes)
        return dict(model.state_dict()), fresh

    alone, _ = weights([PartialTraining(training=WHOLE, epoch=3)])
    kept([PartialTraining(training=WHOLE, epoch=1)])
    third, fresh = kept([PartialTraining(training=WHOLE, epoch=3)])
    assert fresh == 2
    assert equal(alone, third)
    whole, fresh = kept([WHOLE])
    assert fresh == 1
    assert equal(weights([WHOLE])[0], whole)
    # What is kept has gone too far for an earlier epoch, so that one starts anew.
    first, fresh = kept([PartialTraining(training=WHOLE, epoch=1)])
    assert fresh == 1
    assert equal(weights([PartialTraining(training=WHOLE, epoch=1)])[0], first)


def test_checkpoints_are_evenly_spaced_and_never_the_whole() -> None:
    parts = checkpoints_of((WHOLE,), 3)
    assert [epoch for epoch, _ in parts] == [1, 2, 3]
    assert [epoch for epoch, _ in checkpoints_of((WHOLE,), 10)] == [1, 2, 3]
    assert checkpoints_of((WHOLE, Fold()), 3) == []
    assert checkpoints_of((), 3) == []
    assert checkpoints_of((FineTuning(epochs=4, patience=1),), 3) == []
    assert all(whole_of(steps) == (WHOLE,) for _, steps in parts)


def test_an_epoch_beyond_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="at most the 4 epochs of the training, got 5"):
        PartialTraining(training=WHOLE, epoch=5)
