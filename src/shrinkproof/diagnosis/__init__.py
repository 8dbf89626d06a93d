"""Why a candidate is what it is: the layers, classes, conditions and images behind its numbers."""

from shrinkproof.diagnosis.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
