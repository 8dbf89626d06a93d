from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from shrinkproof.data import known_files
from shrinkproof.data.known_files import is_settled, recall, remember, state_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHRINKPROOF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_remembered_comes_back_for_this_kind_and_place_alone(tmp_path: Path) -> None:
    assert recall("headers", tmp_path / "a") == {}
    remember("headers", tmp_path / "a", {"x": [1, "é"]})
    assert recall("headers", tmp_path / "a") == {"x": [1, "é"]}
    assert recall("headers", tmp_path / "b" / ".." / "a") == {"x": [1, "é"]}
    assert recall("tree", tmp_path / "a") == {}
    assert recall("headers", tmp_path / "b") == {}
    remember("headers", tmp_path / "a", {"x": 2})
    assert recall("headers", tmp_path / "a") == {"x": 2}


def test_a_link_is_the_place_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    remember("headers", tmp_path / "link", {"x": 1})
    assert recall("headers", tmp_path / "data") == {"x": 1}


def test_a_folder_whose_name_is_not_utf8_is_remembered_too(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    assert recall("headers", place) == {}
    remember("headers", place, {"x": 1})
    assert recall("headers", place) == {"x": 1}


def test_torn_and_changed_notes_count_as_none(tmp_path: Path, cache: Path) -> None:
    remember("headers", tmp_path, {"name": [1, 2, 3]})
    (file,) = cache.iterdir()
    content = file.read_bytes()
    for damaged in (b"", content[:-2], content.replace(b"[1", b"[7"), b"\xff" + content):
        file.write_bytes(damaged)
        assert recall("headers", tmp_path) == {}
    file.write_bytes(content)
    assert recall("headers", tmp_path) == {"name": [1, 2, 3]}


def test_without_a_place_to_write_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHRINKPROOF_CACHE", str(tmp_path / "file"))
    remember("headers", tmp_path, {"x": 1})
    assert recall("headers", tmp_path) == {}

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SHRINKPROOF_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(known_files.Path, "home", homeless)
    remember("headers", tmp_path, {"x": 1})
    assert recall("headers", tmp_path) == {}


def test_the_folder_is_that_of_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHRINKPROOF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    remember("headers", tmp_path, {"x": 1})
    assert len(list((tmp_path / "xdg/shrinkproof").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    remember("headers", tmp_path, {"x": 1})
    assert len(list((tmp_path / "home/.cache/shrinkproof").iterdir())) == 1


def test_several_writers_leave_one_whole_note(tmp_path: Path, cache: Path) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            remember("headers", tmp_path, {"writer": [number] * 1000})
            found = recall("headers", tmp_path)["writer"]
            assert len(found) == 1000
            assert len(set(found)) == 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(cache.iterdir())) == 1
    assert recall("headers", tmp_path) != {}


def test_every_change_of_a_file_changes_its_state(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = state_of(file.stat())
    assert state_of(file.stat()) == first
    assert first == tuple([3, *first[1:]])
    time.sleep(0.02)
    file.write_bytes(b"two")
    os.utime(file, ns=(first.modified, first.modified))
    same_size_and_time = state_of(file.stat())
    assert same_size_and_time[:2] == first[:2]
    assert same_size_and_time != first
    copy = tmp_path / "copy"
    copy.write_bytes(b"two")
    os.utime(copy, ns=(first.modified, first.modified))
    copy.replace(file)
    assert state_of(file.stat()).inode != first.inode


def test_what_changed_just_now_or_in_the_future_is_not_settled() -> None:
    now = 1_700_000_000_000_000_000
    assert not is_settled(now, now)
    assert not is_settled(now + 1, now)
    assert not is_settled(now - 9_000_000_000, now)
    assert is_settled(now - 11_000_000_000, now)
