"""Why a candidate is what it is: the layers, classes, conditions and images behind its numbers."""
