"""Reading, checking and listing work without torch, so they start fast and run where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import contextlib, importlib, io, sys

from shrinkproof.cli import run
from shrinkproof.cli.tools import _REGISTRIES

for place in _REGISTRIES.values():
    module, _, attribute = place.partition(":")
    registry = getattr(importlib.import_module(module), attribute)
    for name in registry.names():
        registry.get(name)

study, folder, page = sys.argv[1:]
for arguments in (
    ["check", study], ["plan", study, "--no-probe"], ["plan", study, "--no-probe", "--json"],
    ["list"], ["schema"],
    ["status", folder], ["results", folder], ["results", folder, "--json"],
    ["results", folder, "--csv"], ["pareto", folder], ["report", folder, "-o", page],
    ["compare", folder, "baseline", "cluster8"], ["gate", folder, "--rule", "cost.bytes >= 0"],
    ["pareto", folder, "--json"], ["pareto", folder, "--csv"], ["init", page + ".yaml"],
    ["verdict", folder, "--paper", "mitra2024"],
):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run(arguments)
    assert code == 0, (arguments, code)
    assert out.getvalue(), arguments
    loaded = {name.partition('.')[0] for name in sys.modules}
    assert not loaded & {'torch', 'torchvision', 'onnxruntime', 'onnx'}, arguments
"""


def test_commands_that_read_never_load_torch(run_copy: Path, finished_run: Path) -> None:
    (run_copy / "summary.jsonl").unlink(missing_ok=True)  # derived numbers without torch, too
    study = finished_run.parent / "study" / "study.yaml"
    page = run_copy.parent / "page.html"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(study), str(run_copy), str(page)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert page.is_file()
