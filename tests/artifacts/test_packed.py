"""Packed weights: every bit comes back, each tensor in the form that its numbers allow."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shrinkproof.artifacts import packed
from shrinkproof.artifacts.levels import MOST, distinct, index_of
from shrinkproof.artifacts.packed import read_packed, write_packed
from shrinkproof.errors import ExportError, ModelError

COUNT = 64 * 36


def weights(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((64, 4, 3, 3), generator=generator) / 10


def leveled(count: int) -> torch.Tensor:
    table = weights(1).flatten()[:count]
    return table[torch.arange(COUNT) % count].reshape(64, 4, 3, 3)


def eighths(count: int) -> torch.Tensor:
    return (torch.arange(COUNT) % count / 8).reshape(64, 4, 3, 3)


def halved(values: torch.Tensor) -> torch.Tensor:
    """Zeros at every second place."""
    return torch.where(torch.arange(COUNT).reshape(values.shape) % 2 == 0, values, 0.0)


def on_grid(bits: int, scales: int) -> dict[str, torch.Tensor]:
    highest = 2 ** (bits - 1) - 1
    rows = weights().reshape(scales, -1)
    scale = rows.abs().amax(1) / highest
    integers = (rows / scale[:, None]).round()
    weight = (integers * scale[:, None] + 0.0).reshape(64, 4, 3, 3)
    return {"w": weight, "w_scale": scale}


def bits_of(tensor: torch.Tensor) -> bytes:
    return (
        tensor.contiguous().numpy().tobytes()
        if tensor.dtype != torch.bfloat16
        else bits_of(tensor.contiguous().view(torch.int16))
    )


def there_and_back(state, path):
    forms = write_packed(path, state)
    back = read_packed(path)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert bits_of(back[name]) == bits_of(tensor)
    return forms


@pytest.mark.parametrize(
    ("state", "form", "size"),
    [
        ({"w": weights()}, "float32", 4 * COUNT),
        ({"w": leveled(16)}, "16 levels of float32", COUNT // 2 + 16 * 4),
        ({"w": leveled(5)}, "5 levels of float32", COUNT * 3 // 8 + 5 * 4),
        ({"w": leveled(200)}, "200 levels of float32", COUNT + 200 * 4),
        ({"w": torch.full((64, 4, 3, 3), 0.1)}, "1 levels of float32", 4),
        ({"w": torch.zeros(64, 4, 3, 3)}, "1 levels of float16", 2),
        ({"w": halved(weights())}, "mask + float32", COUNT // 8 + 2 * COUNT),
        ({"w": weights().half().float()}, "float16", 2 * COUNT),
        ({"w": (weights() / 1e6).bfloat16().float()}, "bfloat16", 2 * COUNT),
        ({"w": eighths(15)}, "15 levels of float16", COUNT // 2 + 15 * 2),
        (on_grid(8, 64), "int8", COUNT),
        (on_grid(8, 1), "int8", COUNT),
        (on_grid(4, 64), "15 levels of int8", COUNT // 2 + 15),
        (on_grid(12, 64), "int16", 2 * COUNT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_smallest_form_by_hand(tmp_path, state, form, size):
    forms = there_and_back(state, tmp_path / "w")
    assert forms["w"].form == form
    assert forms["w"].bytes == size


def test_sparse_and_clustered_weights_store_indices_of_what_is_left(tmp_path):
    weight = torch.where(weights() > 0.15, leveled(15), 0.0)
    kept = int(weight.count_nonzero())
    form = there_and_back({"w": weight}, tmp_path / "w")["w"]
    assert form.form == "mask + 15 levels of float32"
    assert form.bits == 4
    assert form.bytes == COUNT // 8 + (kept + 1) // 2 + 15 * 4


def test_few_zeros_get_an_index_and_no_mask(tmp_path):
    weight = leveled(16)
    weight[0] = 0
    form = there_and_back({"w": weight}, tmp_path / "w")["w"]
    assert (form.mask, form.levels, form.bits) == (False, 17, 5)


def test_file_is_as_small_as_its_parts(tmp_path):
    path = tmp_path / "w"
    forms = there_and_back({"w": leveled(16), "bias": weights()[0, 0, 0]}, path)
    numbers = sum(form.bytes for form in forms.values())
    assert numbers < path.stat().st_size < numbers + 500


@pytest.mark.parametrize(
    "special",
    [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3.4e38],
    ids=str,
)
@pytest.mark.parametrize("make", [weights, lambda: leveled(4), lambda: halved(leveled(9))])
def test_strange_numbers_come_back_bit_for_bit(tmp_path, special, make):
    weight = make()
    weight[3, 2] = special
    there_and_back({"w": weight, "w_scale": torch.ones(64)}, tmp_path / "w")


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
    ids=str,
)
def test_all_types_come_back(tmp_path, dtype):
    state = {"w": (leveled(7) * 100).to(dtype), "one": torch.ones((), dtype=dtype)}
    assert there_and_back(state, tmp_path / "w")["w"].levels <= 7


def test_odd_shapes_come_back(tmp_path):
    state = {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(1.5),
        "channels last": leveled(16).to(memory_format=torch.channels_last),
        "turned": leveled(16).flatten(1).T,
        "count": torch.tensor(7),
    }
    there_and_back(state, tmp_path / "w")


@pytest.mark.parametrize("scale", [torch.zeros(64), torch.ones(3), torch.full((64,), torch.nan)])
def test_tensor_off_its_grid_is_stored_otherwise(tmp_path, scale):
    forms = there_and_back({"w": weights(), "w_scale": scale}, tmp_path / "w")
    assert forms["w"].form == "float32"


def test_shared_tensor_is_stored_once(tmp_path):
    shared = weights()
    there_and_back({"a": shared, "b": shared}, tmp_path / "both")
    there_and_back({"a": shared}, tmp_path / "one")
    assert (tmp_path / "both").stat().st_size < (tmp_path / "one").stat().st_size + 100


def test_views_of_one_memory_are_kept_apart(tmp_path):
    square = weights().reshape(48, 48)
    there_and_back({"a": square, "b": square.T}, tmp_path / "w")


def test_equal_numbers_give_equal_bytes(tmp_path):
    for name in "ab":
        write_packed(tmp_path / name, {"w": leveled(16), "v": weights(), **on_grid(4, 64)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(np.uint32, st.integers(0, 300), elements=st.integers(0, 2**32 - 1)),
    alphabet=st.integers(1, 300),
    zeros=st.integers(0, 9),
)
def test_any_bits_come_back(tmp_path_factory, values, alphabet, zeros):
    # Few distinct patterns, some of them zero, NaN or denormal.
    if values.size:
        values = np.tile(values[np.arange(values.size) % alphabet], 8)
        values[np.arange(values.size) % 10 < zeros] = 0
    tensor = torch.from_numpy(values.view(np.int32)).view(torch.float32)
    there_and_back({"w": tensor}, tmp_path_factory.mktemp("any") / "w")


def edited(path, change):
    """Rewrite the JSON in the header of a packed file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    listed = json.loads(header["__metadata__"]["shrinkproof"])
    change(listed)
    header["__metadata__"]["shrinkproof"] = json.dumps(listed)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_unknown_version_is_refused(tmp_path):
    path = tmp_path / "w"
    write_packed(path, {"w": leveled(16)})
    edited(path, lambda listed: listed.update(version=99))
    with pytest.raises(ModelError, match="must be of version 1, got 99; install the release"):
        read_packed(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(bits=5),
        lambda entry: entry.update(shape=[64, 4, 3, 4]),
        lambda entry: entry.update(stored="float99"),
        lambda entry: entry.update(mask=True),
        lambda entry: entry.pop("dtype"),
    ],
)
def test_contradiction_is_named_as_damage(tmp_path, change):
    path = tmp_path / "w"
    write_packed(path, {"w": leveled(16)})
    edited(path, lambda listed: change(listed["tensors"]["w"]))
    with pytest.raises(ModelError, match="must be the packed weights of a candidate"):
        read_packed(path)


def test_cut_missing_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "w"
    write_packed(path, {"w": leveled(16)})
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "text").write_bytes(b"something else entirely")
    safetensors.torch.save_file({"w": weights()}, tmp_path / "foreign")
    for name in ("cut", "text", "foreign", "missing"):
        with pytest.raises(ModelError, match=rf"{name}: must be the packed weights"):
            read_packed(tmp_path / name)


def test_plain_tensors_can_be_read_by_anybody(tmp_path):
    path = tmp_path / "w"
    write_packed(path, {"w": leveled(16), "bias": weights()})
    with safetensors.safe_open(path, "pt") as file:
        assert set(file.keys()) == {"w:levels", "w:index", "bias"}
        assert torch.equal(file.get_tensor("bias"), weights())


def test_name_that_looks_like_a_part_is_refused(tmp_path):
    state = {"w": leveled(16), "w:index": weights()}
    with pytest.raises(ExportError, match="rename the layer with the colon"):
        write_packed(tmp_path / "w", state)
    assert not (tmp_path / "w").exists()


def test_form_that_loses_a_bit_is_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "index_of", lambda values, levels: np.zeros(values.size, np.uint8))
    with pytest.raises(ExportError, match=r"w must come back bit for bit.*16 levels of float32"):
        write_packed(tmp_path / "w", {"w": leveled(16)})
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 600),
    size=st.sampled_from([1, 100, 70_000]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]),
)
def test_distinct_values_are_those_of_sorting(count, size, dtype):
    rng = np.random.default_rng(count)
    table = rng.integers(0, np.iinfo(dtype).max, count, dtype=dtype, endpoint=True)
    # Low numbers are frequent, high ones so rare that a sample misses them.
    values = table[np.minimum(rng.geometric(0.02, size), count) - 1]
    expected, index = np.unique(values, return_inverse=True)
    found = distinct(values)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(index_of(values, found), index)


def test_many_values_are_given_up_early_or_late():
    many = np.arange(200_000, dtype=np.uint32)
    assert distinct(many) is None
    late = np.zeros(200_000, np.uint32)
    late[1::12][:5000] = many[1:5001]
    assert np.unique(late[:: 200_000 // (1 << 14)]).size == 1
    assert distinct(late) is None
    assert distinct(many[:MOST]).size == MOST
    assert distinct(many[: MOST + 1]) is None


def test_value_that_is_no_level_is_refused():
    with pytest.raises(ValueError, match="all values must be levels, got 1 others"):
        index_of(np.array([1, 2, 3], np.uint32), np.array([1, 3], np.uint32))


def test_parts_of_one_memory_come_back(tmp_path):
    all_ = weights()
    there_and_back({"all": all_, "half": all_[:500], "square": all_.view(48, 48)}, tmp_path / "w")


def test_weights_on_the_grid_of_a_shared_scale_come_back(tmp_path):
    scale = torch.arange(1, 201).float()
    integers = torch.randint(-50, 50, (200, 5), generator=torch.Generator().manual_seed(0))
    state = {"a_scale": scale, "w": integers * scale[:, None], "w_scale": scale}
    there_and_back(state, tmp_path / "w")


def test_scale_that_is_on_a_grid_itself_comes_first(tmp_path):
    inner = torch.arange(1, 201) * 0.3
    integers = torch.randint(-50, 50, (200, 5), generator=torch.Generator().manual_seed(0))
    state = {"w": integers * inner[:, None], "w_scale": inner, "w_scale_scale": torch.tensor([0.3])}
    there_and_back(state, tmp_path / "w")
