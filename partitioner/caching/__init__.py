"""The compile cache: what compilers, and the check of parity, have found is kept for other builds.

``docs/compile-cache.md`` says what is kept, what a key is made of, and what is trusted.
"""

from partitioner.caching.options import CacheOptions

__all__ = ["CacheOptions"]
