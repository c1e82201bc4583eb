"""A cache on DynamoDB, with a memory layer: for Lambda functions, and for whoever has a table and no Redis.

    from processor.cache import Cache, cached

    cache = Cache("processor-cache", default_ttl=300)
    cache["answer"] = 42

README.md beside this file shows everything. The layers, top down: `cache` and `decorator` (what users call), `flight`
and `coroutines` (one computation for many), `tiers` (memory over the table), `items`, `lease` and `counter` (what is in
the table), `codec`, `memory`, `request`, `stats`.
"""

from __future__ import annotations

from processor.cache.cache import Cache
from processor.cache.codec import Codec
from processor.cache.decorator import cached
from processor.cache.memory import Memory
from processor.errors import CacheError

__all__ = ["Cache", "CacheError", "Codec", "Memory", "cached"]
