"""Structural similarity of heat maps against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.metrics.similarity import ssim

skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")


def unit(maps: np.ndarray) -> np.ndarray:
    return (maps - maps.min()) / (maps.max() - maps.min())


@pytest.mark.parametrize("size", [(12, 12), (20, 24), (32, 32), (64, 40)])
def test_structural_similarity_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a = rng.random((6, *size))
    b = a + rng.uniform(0, 1, (6, 1, 1)) * rng.random((6, *size))
    expected = [
        skimage.structural_similarity(
            unit(x),
            unit(y),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)
