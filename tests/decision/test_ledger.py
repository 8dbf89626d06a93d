"""The use ledger: what a look costs, and what nobody can undo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shrinkproof.decision.ledger import Ledger
from shrinkproof.errors import StoreError, UsageError

A, B, C = (frozenset(f"{name}{number}" for number in range(5)) for name in "abc")

WRITER = """
import sys
from pathlib import Path
from shrinkproof.decision.ledger import Ledger

ledger, name = Ledger.open(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    ledger.spend(purpose="gate", digests=["a", name], plan=f"{name}-{number}", looks=40, error=0.05)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "certify-ledger.jsonl")


def spend(ledger, images=A, plan="p1", looks=1, error=0.05, purpose="certify"):
    return ledger.spend(purpose=purpose, digests=images, plan=plan, looks=looks, error=error)


class TestSpending:
    def test_the_only_look_has_the_whole_error(self, ledger):
        look = spend(ledger)
        assert (look.number, look.of, look.error, look.is_valid, look.why) == (1, 1, 0.05, True, "")
        assert look.images == 5
        assert not look.is_repeat

    def test_a_second_look_is_invalid_where_one_was_planned(self, ledger):
        spend(ledger)
        look = spend(ledger, plan="p2")
        assert (look.number, look.error, look.is_valid) == (2, 0.0, False)
        assert look.why == ("look 2 at these images, but 1 look was planned; it needs new images")

    def test_another_image_of_a_known_group_is_not_new(self, ledger):
        spend(ledger, looks=2)
        first = ledger.spend(
            purpose="certify", digests=B, plan="p2", looks=1, error=0.05, groups=["drive 1"]
        )
        second = ledger.spend(
            purpose="certify", digests=C, plan="p3", looks=1, error=0.05, groups=["drive 1", "x"]
        )
        assert (first.number, first.is_valid, first.images) == (1, True, 5)
        assert (second.number, second.is_valid) == (2, False)

    def test_planned_looks_share_the_error(self, ledger):
        looks = [spend(ledger, plan=f"p{n}", looks=3) for n in range(4)]
        assert [look.error for look in looks] == pytest.approx([0.05 / 3] * 3 + [0])
        assert [look.is_valid for look in looks] == [True, True, True, False]
        assert "look 2 of 3" in looks[1].why
        assert "without knowing the outcome" in looks[1].why

    def test_later_looks_cannot_enlarge_the_plan_or_the_error(self, ledger):
        spend(ledger, looks=2)
        second = spend(ledger, plan="p2", looks=100, error=0.5)
        assert (second.of, second.error) == (2, 0.025)
        assert "2 looks were planned at the first look, 100 now" in second.why
        assert not spend(ledger, plan="p3", looks=100).is_valid

    def test_a_smaller_error_asked_for_is_kept(self, ledger):
        spend(ledger, looks=2)
        assert spend(ledger, plan="p2", looks=2, error=0.01).error == 0.005

    def test_the_same_plan_again_is_the_same_look(self, ledger):
        first = spend(ledger)
        again = spend(Ledger.open(ledger.path), looks=9, error=0.5)
        assert again == first
        assert again.is_repeat
        assert len(ledger.entries()) == 1

    def test_an_invalid_look_stays_invalid(self, ledger):
        spend(ledger)
        assert not spend(ledger, plan="p2").is_valid
        assert not spend(ledger, plan="p2").is_valid

    def test_a_plan_for_another_purpose_is_another_look(self, ledger):
        spend(ledger)
        assert not spend(ledger, purpose="gate").is_valid

    def test_other_images_are_untouched(self, ledger):
        spend(ledger)
        assert spend(ledger, images=B, plan="p2").number == 1

    def test_one_shared_image_is_a_look_at_it(self, ledger):
        spend(ledger)
        look = spend(ledger, images=B | {"a0"}, plan="p2")
        assert not look.is_valid
        assert look.why.startswith("look 2 at some of these images")

    def test_images_of_several_sets_have_the_smallest_plan(self, ledger):
        spend(ledger, looks=5, error=0.05)
        spend(ledger, images=B, plan="p2", looks=3, error=0.03)
        look = spend(ledger, images=A | B, plan="p3", looks=9)
        assert (look.number, look.of, look.error) == (3, 3, pytest.approx(0.01))

    def test_what_valid_looks_spend_on_an_image_never_exceeds_its_first_error(self, ledger):
        sets = [A, A | B, B, A | C, C, A | B | C, B | C]
        for number, images in enumerate(sets * 2):
            spend(ledger, images, f"p{number}", looks=2 + number % 3, error=0.02 + number / 100)
        for image in A | B | C:
            looks = ledger.looks([image])
            assert sum(look.error for look in looks) <= looks[0].budget + 1e-12
            assert not all(look.is_valid for look in looks)

    @pytest.mark.parametrize(
        "bad",
        [{"images": []}, {"images": [""]}, {"images": ["a\nb"]}, {"plan": ""}, {"looks": 0},
         {"error": 0.0}, {"error": 1.0}, {"purpose": ""}],
    )  # fmt: skip
    def test_looks_that_mean_nothing_are_refused(self, ledger, bad):
        with pytest.raises(UsageError, match="ledger"):
            spend(ledger, **bad)
        assert not ledger.path.exists()

    def test_a_plan_keeps_its_images(self, ledger):
        spend(ledger)
        with pytest.raises(UsageError, match="plan p1 must keep its images"):
            spend(ledger, images=B)


class TestReading:
    def test_no_file_is_an_empty_ledger(self, ledger):
        assert ledger.entries() == ()
        assert ledger.looks(A) == ()
        assert not ledger.path.exists()

    def test_looks_at_images_are_found_by_any_of_them(self, ledger):
        first, second = spend(ledger, looks=2), spend(ledger, images=A | B, plan="p2")
        third = spend(ledger, images=C, plan="p3")
        assert ledger.looks(["a1"]) == (first, second)
        assert ledger.looks(["b1", "c1"]) == (second, third)
        assert ledger.looks(["elsewhere"]) == ()

    def test_images_are_stored_once_per_set(self, ledger):
        for number in range(3):
            spend(ledger, plan=f"p{number}")
        lists = list(ledger.path.with_name("certify-ledger.jsonl.images").iterdir())
        assert [path.read_text().split() for path in lists] == [sorted(A)]

    def test_a_ledger_in_a_new_folder_is_made(self, tmp_path):
        ledger = Ledger.open(tmp_path / "new" / "ledger.jsonl")
        assert spend(ledger).is_valid
        assert len(ledger.entries()) == 1

    def test_a_place_that_cannot_be_written_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot be"):
            spend(Ledger(tmp_path / "file" / "ledger.jsonl"))
        (tmp_path / "folder").mkdir()
        with pytest.raises(StoreError, match="cannot be read"):
            Ledger.open(tmp_path / "folder")


class TestDamage:
    @pytest.fixture
    def lines(self, ledger):
        for number in range(3):
            spend(ledger, plan=f"p{number}", looks=3)
        return ledger.path.read_bytes().splitlines(keepends=True)

    def check(self, ledger, lines, words):
        ledger.path.write_bytes(b"".join(lines))
        with pytest.raises(StoreError, match=words):
            Ledger.open(ledger.path)
        with pytest.raises(StoreError, match=words):
            spend(ledger, plan="another")

    def test_an_edited_line_is_named(self, ledger, lines):
        edited = lines[1].replace(b'"is_valid":true', b'"is_valid":false')
        self.check(ledger, [lines[0], edited, lines[2]], r"jsonl:2: .* a changed one")

    def test_a_line_with_a_new_hash_of_its_own_breaks_the_chain(self, ledger, lines):
        body = json.loads(lines[1])
        other = json.loads(lines[0])
        self.check(
            ledger,
            [lines[0], json.dumps({**body, "line": other["line"]}).encode() + b"\n", lines[2]],
            r"jsonl:2: .* a changed one",
        )

    @pytest.mark.parametrize(("kept", "line"), [([1, 2], 1), ([0, 2], 2), ([0, 2, 1], 2)])
    def test_removed_and_moved_lines_are_found(self, ledger, lines, kept, line):
        self.check(ledger, [lines[k] for k in kept], rf"jsonl:{line}: must follow the line before")

    def test_a_line_that_was_cut_off_is_named_with_the_way_out(self, ledger, lines):
        self.check(ledger, [*lines[:2], lines[2][:-10]], r"jsonl:3: .* remove this line")
        ledger.path.write_bytes(b"".join(lines[:2]))
        assert spend(ledger, plan="p2", looks=3).number == 3

    @pytest.mark.parametrize("text", [b"hello\n", b"[]\n", b"{}\n", b"\xff\n", b"null\n", b"\n"])
    def test_foreign_content_is_named(self, ledger, lines, text):
        self.check(ledger, [*lines, text], r"jsonl:4: must be a line of the ledger")

    def test_a_changed_or_missing_image_list_is_found(self, ledger, lines):
        (images,) = ledger.path.with_name("certify-ledger.jsonl.images").iterdir()
        images.write_text("a0\n")
        with pytest.raises(StoreError, match="got other ones"):
            spend(ledger, images=B, plan="new")
        images.unlink()
        with pytest.raises(StoreError, match="restore it beside the ledger"):
            ledger.looks(B)

    def test_a_full_disk_leaves_no_half_line(self, ledger, lines, monkeypatch):
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:20]))
        with pytest.raises(StoreError, match="the disk is full"):
            spend(ledger, plan="p9")
        monkeypatch.undo()
        assert ledger.path.read_bytes() == b"".join(lines)


def test_two_processes_lose_no_look(ledger):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(ledger.path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("x", "y")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdin.close()
        writer.stdout.close()
    looks = ledger.looks(["a"])
    assert [look.number for look in looks] == list(range(1, 41))
    assert all(look.is_valid for look in looks)
