import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.study.work import memory


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
    assert memory.room(1, "cuda") == 250


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
    assert list(memory.grouped(sizes, float, room)) == expected


@given(sizes=st.lists(st.integers(0, 20)), room=st.integers(0, 50))
def test_groups_keep_everything_in_order(sizes, room):
    groups = list(memory.grouped(sizes, float, room))
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= room or len(group) == 1 for group in groups)
