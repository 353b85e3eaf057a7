"""The KV cache in blocks, as vLLM pages it: reference counts, and a prefix cache over free blocks.

A block is held by the requests that read it (its reference count) or is free.
A free block keeps its content until somebody needs the room, so a later prompt
that begins alike finds it again. Blocks are known by a chained hash, which
stands for everything up to their last token and not only for their own tokens.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256

TOKEN_BYTES = 8


def root_hash(cache_salt: str | None) -> bytes:
    """Return the parent of a first block: what differs here shares nothing behind it."""
    return sha256(b"" if cache_salt is None else b"salt " + cache_salt.encode()).digest()


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
    """A fixed number of blocks, each held, or free and in the order of eviction."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._ref_counts = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        # Least recently used first, cached or not: the next block to hand out is at the front.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        # One hash can have several blocks: a block table only grows, so a request that computed
        # what another had computed too keeps its own copy.
        self._cached: dict[bytes, dict[int, None]] = {}

    @property
    def num_free(self) -> int:
        """Blocks that can be taken, those with cached content included."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0 to 1."""
        return 1 - len(self._free) / self.num_blocks

    def find(self, hashes: Iterable[bytes]) -> list[int]:
        """Return the blocks of the longest cached prefix, held or free."""
        blocks = []
        for block_hash in hashes:
            copies = self._cached.get(block_hash)
            if copies is None:
                break
            blocks.append(next(iter(copies)))
        return blocks

    def num_missing(self, needed: int, found: Sequence[int]) -> int:
        """Return how many free blocks a request of `needed` blocks uses up, given those found."""
        # A found block that nobody holds is free as well: sharing it makes it unavailable.
        return needed - sum(1 for block in found if self._ref_counts[block])

    def share(self, blocks: Iterable[int]) -> None:
        """Hold blocks that were found; those that were free can no longer be evicted."""
        for block in blocks:
            if not self._ref_counts[block]:
                del self._free[block]
            self._ref_counts[block] += 1

    def take(self, count: int) -> list[int]:
        """Hold `count` fresh blocks, evicting what the least recently used ones had cached."""
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._forget(block)
            self._ref_counts[block] = 1
        return blocks

    def label(self, block: int, block_hash: bytes) -> None:
        """Make a held block, full by now, known to `find`."""
        self._hashes[block] = block_hash
        self._cached.setdefault(block_hash, {})[block] = None

    def release(self, blocks: Sequence[int]) -> None:
        """Give up a request's blocks. The tail goes first, since a prefix is of use without it."""
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
