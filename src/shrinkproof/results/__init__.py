"""What a run directory says: records, derived numbers, the decision, the page. No torch."""

from shrinkproof.results.reading import Results

__all__ = ["Results"]
