"""What is handed over: the files of one candidate, checked once more, and their model card."""

from __future__ import annotations

from shrinkproof.export.package import Exported, export_candidate

__all__ = ["Exported", "export_candidate"]
