"""Hashes: fingerprints of settings, checksums of files, 64-bit ids.

Files have XXH3 checksums of 128 bits, which cost a fifteenth of what writing the file does; what they are for is to
notice damage and change, not an attacker. Everything small is BLAKE2b (RFC 7693).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

BLOCK_BYTES = 1 << 20


def fingerprint(value: Any) -> str:
    """Hash JSON-like `value` to 20 hex digits; the order of mapping keys does not matter.

    Raises TypeError for what JSON cannot hold (ValueError for a number that is not finite): nothing is hashed by its
    memory address.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=10).hexdigest()


def bytes_checksum(data: bytes | memoryview) -> str:
    """The checksum of a buffer, as `file_checksum` gives it for a file of the same bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def file_checksum(path: Path) -> str:
    """Read a file once and return its checksum (32 hex digits)."""
    with path.open("rb", buffering=0) as file:
        return stream_checksum(file)


def stream_checksum(file: BinaryIO) -> str:
    """The checksum of what is left to read of a binary file, as `file_checksum` gives it."""
    digest, block = xxhash.xxh3_128(), memoryview(bytearray(BLOCK_BYTES))
    while n_bytes := file.readinto(block):  # type: ignore[attr-defined]
        digest.update(block[:n_bytes])
    return digest.hexdigest()


def hash64(*parts: bytes) -> int:
    """A 64-bit hash of byte strings, each framed by its length, so that ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def ids_hash(ids: np.ndarray) -> int:
    """The 64-bit hash of one row of token ids; a cached record is used only for exactly these ids."""
    return hash64(np.ascontiguousarray(ids, dtype="<i4").tobytes())
