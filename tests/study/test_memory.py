import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.evaluators.fitting import grouped
from shrinkproof.evaluators.subject import Scene
from shrinkproof.records import CLEAN, Cell
from shrinkproof.store import Store
from shrinkproof.study import Inputs
from shrinkproof.study.work import measuring, memory
from shrinkproof.study.work.workplace import Workplace
from shrinkproof.testing import tiny_images

from ..study_builder import write_study


def test_workers_share_half_of_what_is_available(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 8000)
    assert memory.room(1) == 4000
    assert memory.room(4) == 1000


def test_nothing_is_limited_where_nobody_tells(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert memory.room(2) == float("inf")


def test_a_gpu_has_memory_of_its_own(monkeypatch):
    import torch

    monkeypatch.setattr(memory, "available_memory", lambda: 8000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (500, 900))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    assert memory.room(1, "cuda") == 350


@pytest.mark.parametrize(
    ("sizes", "room", "expected"),
    [
        ([], 10, []),
        ([3, 3, 3], 10, [(3, 3, 3)]),
        ([3, 3, 3], 6, [(3, 3), (3,)]),
        ([9, 1, 1], 5, [(9,), (1, 1)]),
        ([1, 9, 1], 0, [(1,), (9,), (1,)]),
    ],
)
def test_groups_fill_the_room(sizes, room, expected):
    assert list(grouped(sizes, float, room)) == expected


@given(sizes=st.lists(st.integers(0, 20)), room=st.integers(0, 50))
def test_groups_keep_everything_in_order(sizes, room):
    groups = list(grouped(sizes, float, room))
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= room or len(group) == 1 for group in groups)


@pytest.fixture
def place(tmp_path):
    """A process that works on a study of three candidates, whose files have 100 bytes each."""
    for name, file in (("a", "model.onnx"), ("b", "model.onnx"), ("c", "weights.safetensors")):
        folder = tmp_path / "run" / "candidates" / name
        folder.mkdir(parents=True)
        (folder / file).write_bytes(bytes(100))
    return Workplace(tmp_path / "run", Inputs.load(write_study(tmp_path)))


def _groups(place, monkeypatch, free, answered=0.0):
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    cells = tuple(Cell(f"cell-{c}", c, "scores", "artifact", "report", CLEAN) for c in "abc")
    work = measuring.Pass(str(place.run), "report", CLEAN, cells)
    groups = measuring._groups(place, Store(place.run), work, answered)
    return ["".join(cell.candidate for cell in group) for group in groups]


def test_candidates_without_a_file_fill_memory_too(place, monkeypatch):
    assert _groups(place, monkeypatch, 2 * 1200) == ["abc"]
    assert _groups(place, monkeypatch, 2 * 1200 - 2) == ["ab", "c"]


def test_what_candidates_answer_fills_memory_too(place, monkeypatch):
    assert _groups(place, monkeypatch, 2 * 1500, answered=100.0) == ["abc"]
    assert _groups(place, monkeypatch, 2 * 1500 - 2, answered=100.0) == ["ab", "c"]
    place.predictors = {("a", "artifact"): len, ("b", "artifact"): len}
    assert _groups(place, monkeypatch, 2 * 700, answered=100.0) == ["abc"]


def test_logits_are_counted_for_every_image_and_class():
    scene = Scene(tiny_images(count=6, classes=5), CLEAN, None, 4)
    assert measuring._answered(scene) == 6 * 5 * 4


def test_what_is_loaded_is_not_counted_twice(place, monkeypatch):
    place.predictors = {("a", "artifact"): len, ("b", "artifact"): len}
    assert _groups(place, monkeypatch, 2 * 400) == ["abc"]
    assert len(place.predictors) == 2


def test_what_earlier_passes_have_loaded_makes_room(place, monkeypatch):
    place.predictors = {("x", "twin"): len, ("a", "artifact"): len}
    assert _groups(place, monkeypatch, 2 * 400) == ["a", "b", "c"]
    assert place.predictors == {}
