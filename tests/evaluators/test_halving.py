import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import ExportError
from shrinkproof.evaluators.halving import Halving, is_out_of_memory


@pytest.fixture(scope="module", autouse=True)
def _without_collecting():
    """Finding cycles of garbage among all of torch's objects takes most of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shrinkproof.evaluators.halving.gc.collect", lambda: 0)
        yield


class _Memory:
    """A network that fits into memory with so many images, and says what it was given."""

    def __init__(self, room, error=MemoryError):
        self.room, self.error = room, error
        self.given = []

    def __call__(self, inputs):
        self.given.append(len(inputs))
        if len(inputs) > self.room:
            raise self.error("no room for so many")
        return 2 * inputs


def _images(count):
    return np.arange(count, dtype=np.float32)[:, None]


def test_a_batch_that_fits_is_given_as_it_is():
    network = _Memory(8)
    predict = Halving(network)
    assert np.array_equal(predict(_images(8)), 2 * _images(8))
    assert network.given == [8]
    assert predict.note == ""


def test_a_batch_is_halved_until_it_fits_and_later_ones_begin_there():
    network = _Memory(2)
    predict = Halving(network)
    assert np.array_equal(predict(_images(8)), 2 * _images(8))
    assert network.given == [8, 4, 2, 2, 2, 2]
    network.given.clear()
    assert np.array_equal(predict(_images(5)), 2 * _images(5))
    assert network.given == [2, 2, 1]
    assert predict.note == (
        "batch halved to 2 after out of memory; differs in the last bits from batches of 8"
    )


def test_memory_that_goes_away_later_halves_again():
    network = _Memory(4)
    predict = Halving(network)
    predict(_images(8))
    network.room = 1
    assert np.array_equal(predict(_images(8)), 2 * _images(8))
    assert network.given == [8, 4, 4, 4, 2, *[1] * 8]


def test_one_image_that_does_not_fit_is_an_error():
    with pytest.raises(MemoryError, match="no room"):
        Halving(_Memory(0))(_images(4))


def test_another_error_is_not_retried():
    network = _Memory(2, ValueError)
    with pytest.raises(ValueError, match="no room"):
        Halving(network)(_images(4))
    assert network.given == [4]


@given(count=st.integers(1, 40), room=st.integers(1, 40))
def test_every_image_is_predicted_once_in_order(count, room):
    assert np.array_equal(Halving(_Memory(room))(_images(count)), 2 * _images(count))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"
                     " memory: you tried to allocate 268435456 bytes."),
        RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 1"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=["python", "torch", "onnxruntime", "cuda", "cudnn", "c++"],
)  # fmt: skip
def test_the_words_for_too_little_memory_are_known(error):
    wrapped = ExportError("the runtime must accept inputs")
    wrapped.__cause__ = error
    assert is_out_of_memory(error)
    assert is_out_of_memory(wrapped)


def test_other_errors_are_not_about_memory():
    assert not is_out_of_memory(ValueError("shapes do not fit"))
    assert not is_out_of_memory(None)
