"""What was measured elsewhere: tables of results, and predictions of a target we cannot run."""

from __future__ import annotations

from shrinkproof.foreign.kit import write_kit
from shrinkproof.foreign.predicted import import_predictions
from shrinkproof.foreign.run import import_results

__all__ = ["import_predictions", "import_results", "write_kit"]
