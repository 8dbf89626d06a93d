from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.ahead import read_ahead
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError
from shrinkproof.evaluators.prefetch import prefetched
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.subject import InputKind, Scene, Subject
from shrinkproof.evaluators.world import Generated
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Condition, Failure
from shrinkproof.testing import tiny_images

NOISE = Condition("gaussian_noise", 3)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert readers() == []


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("read-ahead")]


class Counted:
    """Numbers from 0, with what became of the generator."""

    def __init__(self, stop: int, error: Exception | None = None) -> None:
        self.made = 0
        self.is_closed = False
        self.threads: set[int] = set()
        self.stop, self.error = stop, error

    def __iter__(self) -> Iterator[int]:
        return self.items()

    def items(self):
        try:
            for number in range(self.stop):
                self.threads.add(threading.get_ident())
                self.made += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True


def reached(counted: Counted, made: int) -> bool:
    """Wait until the thread has made so many items."""
    deadline = time.monotonic() + 10
    while counted.made < made and time.monotonic() < deadline:
        time.sleep(0.001)
    return counted.made == made


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_items_come_in_order_from_one_other_thread(ahead: int, count: int) -> None:
    counted = Counted(count)
    assert list(read_ahead(counted.items(), ahead=ahead)) == list(range(count))
    assert len(counted.threads) == min(count, 1)
    assert threading.get_ident() not in counted.threads


def test_never_more_items_are_made_than_asked_for() -> None:
    counted = Counted(9)
    items = read_ahead(counted.items(), ahead=2)
    assert counted.made == 0
    for number in range(4):
        assert next(items) == number
        assert reached(counted, number + 3)
    time.sleep(0.02)
    items.close()
    assert counted.made == 6
    assert counted.is_closed


def test_an_error_is_raised_in_its_turn_with_its_type() -> None:
    counted = Counted(4, DataError("image 5 is damaged"))
    items = read_ahead(counted.items())
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    assert readers() != []
    with pytest.raises(DataError, match="image 5 is damaged"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_who_stops_early_ends_the_thread(error: type[BaseException]) -> None:
    def look() -> None:
        scene = scene_of(tiny_images(40), CLEAN, batch=4)
        with prefetched(scene, [InputKind(Preprocess())]) as batches:
            next(batches)
            assert len(readers()) == 1
            raise error

    with pytest.raises(error):
        look()
    assert readers() == []


def test_ctrl_c_ends_the_wait_for_a_batch() -> None:
    def slow() -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        yield 1

    # Where the tests were started in the background, interrupts are ignored otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(read_ahead(slow()))  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_thread_treats_floating_point_errors_as_its_caller() -> None:
    def divide() -> Iterator[float]:
        yield np.float64(1) / np.float64(0)

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        next(read_ahead(divide()))  # type: ignore[arg-type]
    with np.errstate(divide="ignore"):
        assert next(read_ahead(divide())) == np.inf  # type: ignore[arg-type]


def scene_of(images: ImageSet, condition: Condition, batch: int) -> Scene:
    return Scene(images, condition, Generated(preset="cifar", seed=0), batch)


@pytest.mark.parametrize("condition", [CLEAN, NOISE, Condition("snow", 2)], ids=str)
def test_batches_are_those_of_the_scene_bit_for_bit(condition: Condition) -> None:
    scene = scene_of(tiny_images(50), condition, batch=8)
    plain, scaled = Preprocess(), Preprocess(mean=(0.5, 0.4, 0.3), size=(20, 24))
    kinds = [InputKind(plain), InputKind(scaled), InputKind(plain)]
    with prefetched(scene, kinds) as batches:
        found = list(batches)
    expected = list(scene.batches())
    assert len(found) == len(expected) == 7
    for ready, (positions, images) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ready.positions, positions)
        assert ready.shape == images.shape[1:3]
        assert len(ready.inputs) == 2
        for kind in kinds:
            np.testing.assert_array_equal(ready.inputs[kind], kind.preprocess(images))


def subject_of(scene: Scene, name: str, predict, **other) -> Subject:
    cell = Cell(name, name, "tiny", "artifact", "report", scene.condition)
    return Subject(
        cell=cell, predict=predict, preprocess=Preprocess(), num_classes=4, scene=scene, **other
    )


def logits(inputs: np.ndarray) -> np.ndarray:
    return inputs.reshape(len(inputs), 4, -1).mean(axis=2, dtype=np.float32)


def measured(subjects: list[Subject]) -> dict[str, tuple[Measurement, ...] | Failure]:
    scores = Scores(metrics=("accuracy.top1", "accuracy.nll"), replicates=100)
    outcomes = scores.measure(subjects, subjects[0].cell.condition)
    return {s.key: o if isinstance(o, Failure) else tuple(o) for s, o in outcomes}


def test_what_is_handed_over_is_made_once_in_the_thread_and_predicted() -> None:
    scene = scene_of(tiny_images(40), NOISE, batch=16)
    calls: list[tuple[int, int]] = []

    def pinned(inputs: np.ndarray) -> list[np.ndarray]:
        calls.append((threading.get_ident(), len(inputs)))
        return [inputs]

    def predict(copies: list[np.ndarray]) -> np.ndarray:
        assert threading.get_ident() == threading.main_thread().ident
        return logits(copies[0])

    on_device = [subject_of(scene, name, predict, hand_over=pinned) for name in "ab"]
    found = measured([subject_of(scene, "c", logits), *on_device])
    assert found["a"] == found["b"] == found["c"]
    assert [count for _, count in calls] == [16, 16, 8]
    assert threading.main_thread().ident not in {thread for thread, _ in calls}


def test_nothing_is_read_for_nobody() -> None:
    images = tiny_images(200)
    read: list[int] = []

    class Listening:
        def __getitem__(self, positions: np.ndarray) -> np.ndarray:
            read.extend(positions.tolist())
            return images.images[positions]

        def __len__(self) -> int:
            return len(images)

    def broken(_: np.ndarray) -> np.ndarray:
        raise ValueError("no kernel")

    scene = scene_of(replace(images, images=Listening()), CLEAN, batch=10)
    found = measured([subject_of(scene, name, broken) for name in "ab"])
    assert {type(outcome) for outcome in found.values()} == {Failure}
    assert len(read) <= 40


def test_an_unreadable_image_fails_the_pass_as_without_the_thread(tmp_path: Path) -> None:
    images = tiny_images(30)

    class Damaged:
        def __getitem__(self, positions: np.ndarray) -> np.ndarray:
            if 25 in positions:
                raise DataError(f"{tmp_path}: the image breaks off")
            return images.images[positions]

        def __len__(self) -> int:
            return len(images)

    seen: list[int] = []

    def counting(inputs: np.ndarray) -> np.ndarray:
        seen.append(len(inputs))
        return logits(inputs)

    scene = scene_of(replace(images, images=Damaged()), CLEAN, batch=10)
    with pytest.raises(DataError, match="breaks off"):
        measured([subject_of(scene, "a", counting)])
    assert seen == [10, 10]
