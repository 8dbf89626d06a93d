"""Small networks and files for tests of model references."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

DEV_DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    folder = DEV_DATA / "checkpoints"
    if not folder.is_dir():
        pytest.skip("development data are absent: no published checkpoints")
    return folder


@pytest.fixture(scope="session")
def cifar10_test() -> tuple[np.ndarray, np.ndarray]:
    folder = DEV_DATA / "cifar10"
    if not folder.is_dir():
        pytest.skip("development data are absent: no CIFAR-10")
    from PIL import Image

    with Image.open(folder / "test.webp") as file:
        sheet = np.asarray(file.convert("RGB"))
    images = sheet.reshape(100, 32, 100, 32, 3).transpose(0, 2, 1, 3, 4).reshape(10000, 32, 32, 3)
    return images, np.load(folder / "labels.npz")["test_labels"]
