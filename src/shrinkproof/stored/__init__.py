"""Corrupted images in files: published sets and our own, read and written in their formats.

Writing stands in ``shrinkproof.stored.writing``, so that reading a study costs none of its imports.
"""

from shrinkproof.stored.opening import StoredSet, open_stored

__all__ = ["StoredSet", "open_stored"]
