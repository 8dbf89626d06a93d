"""A set of images that is larger than the memory a process may take."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

COUNT, SIDE = 7000, 224
CHUNK = 2**22

PASS = """
import resource
import sys
from pathlib import Path

import numpy as np

from shrinkproof.data.reading import load_images
from shrinkproof.evaluators.scores import Scores
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.evaluators.world import Generated
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import Cell, Condition
import shrinkproof.corruptions.apply

fog = Condition("fog", 3)


def predict(inputs):
    return inputs[:, 0, :10, 0] * np.arange(10, dtype=np.float32)


def measure(images):
    scene = Scene(images, fog, Generated("imagenet", seed=0), 16)
    subjects = [
        Subject(Cell(name, name, "m", "artifact", "report", fog), predict, Preprocess(), 10,
                scene=scene)
        for name in "ab"
    ]
    scores = Scores(metrics=("accuracy.top1", "accuracy.nll"), replicates=100)
    return dict((s.key, list(found)) for s, found in scores.measure(subjects, fog))


def taken():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


room = int(sys.argv[2])
before = taken()
resource.setrlimit(resource.RLIMIT_DATA, (before + room, before + room))
images = load_images(f"arrays:{sys.argv[1]}", {})
assert len(images) == 7000
assert len(set(images.hashes.tolist())) == 2
found = measure(images.take(np.arange(5, 7000, 50)))
assert found["a"] == found["b"]
assert found["a"][0].count == 140
try:
    np.ones(room, dtype=np.uint8)
except MemoryError:
    print("bounded")
"""


class Sparse(io.FileIO):
    """A file in which zeros take no room."""

    def write(self, content) -> int:  # type: ignore[no-untyped-def]
        if len(content) < CHUNK or any(content):
            return super().write(content) or 0
        self.seek(len(content), io.SEEK_CUR)
        return len(content)


def write_large(path: Path) -> None:
    """Write black images, of which one is white, and labels."""
    head = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (COUNT, SIDE, SIDE, 3)}
    np.lib.format.write_array_header_1_0(head, shape)
    size = SIDE * SIDE * 3
    target = io.BytesIO()
    np.save(target, np.arange(COUNT) % 10)
    with Sparse(path, "w") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("target.npy", target.getvalue())
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(head.getvalue())
            member.write(b"\xff" * size)
            left = (COUNT - 1) * size
            zeros = bytes(CHUNK)
            while left:
                left -= member.write(zeros[: min(left, CHUNK)])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what is not mapped")
def test_a_pass_over_a_gigabyte_needs_a_fraction_of_it(tmp_path: Path) -> None:
    large = tmp_path / "large.npz"
    write_large(large)
    assert large.stat().st_size > 10**9
    done = subprocess.run(
        [sys.executable, "-c", PASS, str(large), str(250 * 10**6)],
        env={**os.environ, "SHRINKPROOF_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "bounded\n"
