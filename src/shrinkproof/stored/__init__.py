"""Corrupted images in files: published sets and our own, read and written in their formats."""

from shrinkproof.stored.opening import StoredSet, open_stored
from shrinkproof.stored.writing import Written, write_corrupted_set

__all__ = ["StoredSet", "Written", "open_stored", "write_corrupted_set"]
