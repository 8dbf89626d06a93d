"""The commands of docs/foreign-results.md work as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shrinkproof import cli
from shrinkproof.results import Results

from .foreign_tables import conditions, summary

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "foreign-results.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands expect to find."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, tmp_path / "runs" / "tiny")
    results = Results.load(tmp_path / "runs" / "tiny")
    (key,) = [c.key for c in results.candidates if c.label == "net/prune0.5"]
    network = tmp_path / "runs" / "tiny" / "candidates" / key / "model.onnx"
    shutil.copy(network, tmp_path / "network.onnx")
    conditions(tmp_path / "conditions.csv")
    summary(tmp_path / "summary.csv")
    text = (tmp_path / "conditions.csv").read_text()
    header, _, rest = text.partition("\n")
    header = header.replace("model", "network").replace("error", "top-1 err")
    theirs = f"{header}\n{rest}".replace("jpeg_compression", "jpeg85")
    (tmp_path / "theirs.csv").write_text(theirs)
    (tmp_path / "words.yaml").write_text(
        "network: model\ntop-1 err: error\njpeg85: jpeg_compression\n"
    )
    return tmp_path


@pytest.mark.slow
def test_the_commands_work_as_written(folder: Path) -> None:
    lines = commands()
    assert len(lines) >= 10
    for line in lines:
        name, *words = shlex.split(line)
        arguments = [
            str(path.relative_to(folder)) if "*" in word else word
            for word in words
            for path in (sorted(folder.glob(word)) if "*" in word else [Path(word)])
        ]
        if name == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            assert name == "shrinkproof"
            assert cli.run(arguments) == 0, line
    results = Results.load(folder / "runs" / "tiny")
    assert "net/prune0.5-npu" in {c.label for c in results.candidates}
    assert not results.decision.undefined
