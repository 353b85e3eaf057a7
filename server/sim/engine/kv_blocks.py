"""The KV cache in blocks, as vLLM pages it: reference counts, and a prefix cache over free blocks.

A block is used by the requests that read it (its reference count) or is free.
A free block keeps its content until the room is needed, so a later prompt with
the same beginning finds it again. A block's key is a chained hash of everything
up to its last token, not only of its own tokens.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256

TOKEN_BYTES = 8


def root_hash(cache_salt: str | None, adapter: str | None = None) -> bytes:
    """Return the parent hash of a first block: other salts or adapters share nothing."""
    own = b"" if cache_salt is None else b"salt " + cache_salt.encode()
    return sha256(own if adapter is None else own + b" adapter " + adapter.encode()).digest()


def hash_blocks(parent: bytes, token_ids: Sequence[int], block_size: int) -> list[bytes]:
    """Return the hash of each full block of `token_ids`, chained from `parent`."""
    width = TOKEN_BYTES * block_size
    data = array("q", token_ids).tobytes()
    hashes = []
    for start in range(0, len(data) - width + 1, width):
        parent = sha256(parent + data[start : start + width]).digest()
        hashes.append(parent)
    return hashes


class KVBlocks:
    """A fixed number of blocks: in use, or free and in the order of eviction."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._ref_counts = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        # Least recently used first, cached or not: the next block to hand out is at the front.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        # One hash can have several blocks: a block table only grows, so two requests that computed
        # the same block keep one copy each.
        self._cached: dict[bytes, dict[int, None]] = {}

    @property
    def num_free(self) -> int:
        """Blocks that can be taken, those with cached content included."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """Share of the blocks that are in use, 0 to 1."""
        return 1 - len(self._free) / self.num_blocks

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """Return the blocks of the longest cached prefix, in use or free."""
        blocks = []
        for block_hash in hashes:
            copies = self._cached.get(block_hash)
            if copies is None:
                break
            blocks.append(next(iter(copies)))
        return blocks

    def num_missing(self, needed: int, found: Sequence[int]) -> int:
        """Return how many free blocks a request of `needed` blocks takes, given those found."""
        # A found block that no request uses is free: sharing it makes it unavailable.
        return needed - sum(1 for block in found if self._ref_counts[block])

    def share(self, blocks: Iterable[int]) -> None:
        """Use blocks that were found; those that were free can no longer be evicted."""
        for block in blocks:
            if not self._ref_counts[block]:
                del self._free[block]
            self._ref_counts[block] += 1

    def take(self, count: int) -> list[int]:
        """Take `count` new blocks, evicting the cached content of the least recently used ones."""
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._forget(block)
            self._ref_counts[block] = 1
        return blocks

    def label(self, block: int, block_hash: bytes) -> None:
        """Let `find` find a block in use that is now full."""
        self._hashes[block] = block_hash
        self._cached.setdefault(block_hash, {})[block] = None

    def release(self, blocks: Sequence[int]) -> None:
        """Free a request's blocks. The tail is evicted first: a prefix is useful without it."""
        for block in reversed(blocks):
            self._ref_counts[block] -= 1
            if not self._ref_counts[block]:
                self._free[block] = None

    def _forget(self, block: int) -> None:
        block_hash = self._hashes[block]
        if block_hash is None:
            return
        self._hashes[block] = None
        copies = self._cached[block_hash]
        del copies[block]
        if not copies:
            del self._cached[block_hash]
