"""The run directory: what is done, written atomically, readable after any accident."""

from shrinkproof.store.directory import Shard, Store, digest_of

__all__ = ["Shard", "Store", "digest_of"]
