"""The three papers and what they claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shrinkproof.verdict.claims import Paper
from shrinkproof.verdict.papers import dasilva2025, mantowsky2023, mitra2024

PAPERS: Final[Mapping[str, Paper]] = {
    paper.name: paper for paper in (mitra2024.PAPER, mantowsky2023.PAPER, dasilva2025.PAPER)
}
"""Papers by name, in the order of their letters."""
