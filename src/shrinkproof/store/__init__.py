"""The run directory: what is done, written atomically, readable after any accident."""

from shrinkproof.store.directory import Shard, Store, digest_of, values_in
from shrinkproof.store.parts import Part, Parts

__all__ = ["Part", "Parts", "Shard", "Store", "digest_of", "values_in"]
