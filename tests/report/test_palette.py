"""Colors stay apart for color-blind readers, text stays readable, and shapes differ besides."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from shrinkproof.report import figures, plots
from shrinkproof.report.scripts import asset

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)

CURVES = (figures.INK, figures.CHOSEN, *plots.PALETTE)
MARKS = (figures.CHOSEN, figures.FRONT, figures.INK, figures.DIM)


def linear(color):
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(color, deficiency="none"):
    rgb = np.clip(DEFICIENCIES[deficiency] @ linear(color), 0, 1)
    ratio = XYZ @ rgb / WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(color):
    return float(XYZ[1] @ linear(color))


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def dark_of(color):
    """What the style sheet makes of a color of the figures in the dark."""
    found = re.search(rf'svg \[(?:fill|stroke)="{color}"\] \{{ \w+: (#\w+)', asset("style.css"))
    return found.group(1)


def variables(scheme):
    style = asset("style.css")
    block = style[: style.index("@media")] if scheme == "light" else style
    if scheme == "dark":
        block = style[style.index("prefers-color-scheme: dark") :]
    block = block[: block.index("}")]
    return dict(re.findall(r"--([\w-]+): (#\w{6})", block))


def test_the_color_space_is_right():
    assert lab("#ffffff") == pytest.approx([100, 0, 0], abs=0.01)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    gray = DEFICIENCIES["protanopia"] @ np.full(3, 0.5)
    assert gray == pytest.approx(np.full(3, 0.5), abs=1e-4)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("shade", [str, dark_of], ids=["light", "dark"])
@pytest.mark.parametrize("colors", [CURVES, MARKS], ids=["curves", "marks"])
def test_colors_that_stand_together_can_be_told_apart(colors, shade, deficiency):
    # A difference of 2.3 is just noticeable side by side (Mahy et al. 1994).
    for first, second in itertools.combinations(colors, 2):
        gap = np.linalg.norm(lab(shade(first), deficiency) - lab(shade(second), deficiency))
        assert gap > 10, (first, second, gap)


def test_marks_differ_in_shape_or_filling_and_not_by_color_alone():
    looks = {
        kind: (look["shape"], look.get("fill") == figures.PAPER, look["size"])
        for kind, look in figures.SYMBOLS.items()
    }
    assert len(set(looks.values())) == len(looks)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_on_everything_it_stands_on(scheme):
    color = variables(scheme)
    for text in ("ink", "muted", "blue", "red"):
        for paper in ("paper", "panel", "amber-paper", "lit"):
            assert contrast(color[text], color[paper]) >= 4.5, (text, paper)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cells_of_heat_maps_are_readable(scheme):
    color = variables(scheme)
    for name, paper in color.items():
        if re.fullmatch(r"e[0-9]|[bw][1-4]|z", name):
            text = color["on-dark" if name in ("e6", "e7", "e8", "e9") else "on-light"]
            assert contrast(text, paper) >= 4.5, (name, contrast(text, paper))
