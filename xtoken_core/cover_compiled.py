"""The compiled loops over what a record's tokens spell behind the bytes that were read."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def remainders(
    topk_ids: np.ndarray,
    text: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    data: np.ndarray,
    offsets: np.ndarray,
) -> np.ndarray:
    """Where in `data` each stored token goes on behind the bytes `text[begin:end]` of its row: int64 [N, k].

    Token t is `data[offsets[t]:offsets[t + 1]]`. A token that ends there has -2, one that begins otherwise
    has -1.
    """
    rows, k = topk_ids.shape
    found = np.full((rows, k), -1, dtype=np.int64)
    for row in range(rows):
        read = end[row] - begin[row]
        for slot in range(k):
            first = offsets[topk_ids[row, slot]]
            length = offsets[topk_ids[row, slot] + 1] - first
            same = length >= read
            at = 0
            while same and at < read:
                same = data[first + at] == text[begin[row] + at]
                at += 1
            if same:
                found[row, slot] = first + read if length > read else -2
    return found
