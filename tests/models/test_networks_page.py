"""The page about networks names them all, with their real numbers of parameters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from shrinkproof.models.cifar_source import NETWORKS, Cifar
from shrinkproof.models.upsampled_source import NETWORKS as LARGE
from shrinkproof.models.upsampled_source import Upsampled

PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
ROW = re.compile(r"^\| `(cifar|upsampled):(\w+)` \| [^|]+ \| ([\d,]+) \|", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text("utf-8"))


def test_every_network_is_there_once() -> None:
    named = [f"{scheme}:{name}" for scheme, name, _ in ROWS]
    assert sorted(named) == sorted(
        [*(f"cifar:{name}" for name in NETWORKS), *(f"upsampled:{name}" for name in LARGE)]
    )


@pytest.mark.parametrize(("scheme", "name", "parameters"), ROWS)
def test_numbers_of_parameters_are_those_of_the_networks(
    scheme: str, name: str, parameters: str
) -> None:
    source = Cifar() if scheme == "cifar" else Upsampled()
    with torch.device("meta"):
        network = source.build(name, 10, {})
    assert sum(p.numel() for p in network.parameters()) == int(parameters.replace(",", ""))
