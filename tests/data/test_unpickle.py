from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.unpickle import load_plain_pickle
from shrinkproof.errors import DataError


class Python2Pickler(pickle._Pickler):
    """Write texts as Python 2 did, and numpy's functions under their old names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, value: str | bytes) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        if not self.bin:
            self.write(b"S" + repr(raw)[1:].encode() + b"\n")
        elif len(raw) < 256:
            self.write(b"U" + bytes([len(raw)]) + raw)
        else:
            self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = save_text
    dispatch[bytes] = save_text

    def save_global(self, obj: object, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type(np.empty(0).__reduce__()[0])] = save_global
    dispatch[type] = save_global


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BATCH = {
    "data": np.random.default_rng(0).integers(0, 256, (5, 300), dtype=np.uint8),
    "labels": [0, 1, 2, 3, 4],
    "batch_label": "testing batch 1 of 1",
    "scalar": np.int64(5),
}


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_pickles_of_python_2(tmp_path: Path, protocol: int) -> None:
    file = io.BytesIO()
    Python2Pickler(file, protocol).dump({k: v for k, v in BATCH.items() if k != "scalar"})
    found = load_plain_pickle(write(tmp_path / "batch", file.getvalue()))
    np.testing.assert_array_equal(found[b"data"], BATCH["data"])
    assert found[b"labels"] == [0, 1, 2, 3, 4]
    assert found[b"batch_label"] == b"testing batch 1 of 1"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("spelling", [b"numpy._core", b"numpy.core"])
def test_pickles_of_python_3(tmp_path: Path, protocol: int, spelling: bytes) -> None:
    content = pickle.dumps({**BATCH, b"empty": b"", b"raw": b"\xff\x00"}, protocol)
    if protocol < 4:
        content = content.replace(b"numpy._core", spelling)
    found = load_plain_pickle(write(tmp_path / "batch", content))
    np.testing.assert_array_equal(found["data"], BATCH["data"])
    assert found["scalar"] == 5
    assert found[b"raw"] == b"\xff\x00"
    assert found[b"empty"] == b""


class Evil:
    def __init__(self, function: object, *arguments: object) -> None:
        self.parts = (function, arguments)

    def __reduce__(self):
        return self.parts


def evil_module(name: str, function: str) -> bytes:
    return f"c{name}\n{function}\n(S'x'\ntR.".encode()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_else_is_admitted(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    path = write(tmp_path / "batch", pickle.dumps(Evil(Path.touch, witness), protocol))
    with pytest.raises(
        DataError, match=r"batch: must hold only arrays.*names .*(touch|Path|getattr)"
    ):
        load_plain_pickle(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy", "ndarray.tofile"),
        ("codecs", "encode"),
        ("copy_reg", "_reconstructor"),
    ],
)
def test_the_message_names_the_function(tmp_path: Path, module: str, name: str) -> None:
    path = write(tmp_path / "batch", evil_module(module, name))
    with pytest.raises(DataError, match=f"names {module}.{name}, which would run code"):
        load_plain_pickle(path)


def test_other_codecs_have_no_place(tmp_path: Path) -> None:
    content = b"c_codecs\nencode\n(Vabc\nVrot13\ntR."
    with pytest.raises(DataError, match="make no sense"):
        load_plain_pickle(write(tmp_path / "batch", content))


@pytest.mark.parametrize(
    "content",
    [
        b"c_codecs\nencode\n(dVcode\nVx\nsb.",
        b"(dVdata\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntRs.",
        b"(dVdata\ncnumpy.core.multiarray\n_reconstruct\n(c__builtin__\nbytes\ntRs.",
        b"(dVdata\ncnumpy\ndtype\n(VO8\ntRs.",
    ],
    ids=["state of a function", "array without content", "array of bytes", "array of objects"],
)
def test_admitted_names_have_no_other_use(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="make no sense"):
        load_plain_pickle(write(tmp_path / "batch", content))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8", ">f4", "u1", "?"])
def test_arrays_of_all_numbers(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.array(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    found = load_plain_pickle(write(tmp_path / "batch", pickle.dumps({"data": array}, 2)))
    assert found["data"].dtype == array.dtype
    np.testing.assert_array_equal(found["data"], array)


def test_arrays_of_objects_and_other_values_are_refused(tmp_path: Path) -> None:
    array = np.array([None, 1], dtype=object)
    with pytest.raises(DataError, match="'O8' is no type of plain numbers"):
        load_plain_pickle(write(tmp_path / "batch", pickle.dumps({"data": array}, 2)))
    with pytest.raises(DataError, match="batch: must hold a dictionary, got list"):
        load_plain_pickle(write(tmp_path / "batch", pickle.dumps([1], 2)))


def test_truncated_files_are_named(tmp_path: Path) -> None:
    content = pickle.dumps(BATCH, 2)
    for length in [0, 1, *range(2, len(content), 37), len(content) - 1]:
        path = write(tmp_path / "batch", content[:length])
        with pytest.raises(DataError, match=f"batch: must be a complete pickle.*got {length}"):
            load_plain_pickle(path)


def test_damaged_files_give_no_other_error(tmp_path: Path) -> None:
    content = pickle.dumps({"data": np.arange(6, dtype=np.uint8), "labels": [1, 2]}, 2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(2, len(content))] = rng.integers(0, 256)
        path = write(tmp_path / "batch", bytes(damaged))
        try:
            load_plain_pickle(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_outside_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside object"):
        load_plain_pickle(write(tmp_path / "batch", b"Pthing\n."))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_plain_pickle(tmp_path / "absent")
