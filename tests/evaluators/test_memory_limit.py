"""Batches that a process with too little memory really cannot hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.forward import Forward
from shrinkproof.artifacts.session import Session
from shrinkproof.evaluators.halving import Halving

torch.set_num_threads(1)
network = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(64, 4),
).eval()
file = Path(sys.argv[2])
if sys.argv[1] == "file":
    export_onnx(network, torch.zeros(1, 3, 64, 64), file, changes=())
    predict = Session(file)
else:
    predict = Forward(network, memory_format="auto")
inputs = np.random.default_rng(0).standard_normal((64, 3, 64, 64), dtype=np.float32)
expected = np.concatenate([predict(inputs[i : i + 1]) for i in range(64)])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (40 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
halving = Halving(predict)
assert np.allclose(halving(inputs), expected, rtol=0, atol=1e-4)
assert halving.note.startswith("batch halved to "), halving.note
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux")
@pytest.mark.parametrize("form", [pytest.param("file", marks=pytest.mark.long), "network"])
def test_a_limit_on_the_memory_of_the_process_halves_the_batch(form: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, form, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
