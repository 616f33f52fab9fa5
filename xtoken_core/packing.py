"""Which windows share a row: first-fit decreasing over the lengths in every tokenizer at once.

One plan serves the student and every model that runs beside it: a window has a length for each of them, and a row must
fit the limit of all. First-fit decreasing needs at most 11/9 of the fewest rows possible, plus one, where there is one
model (Dosa 2007), and about as few in practice where there are several.
"""

import numpy as np
from numba import njit


def pack(lengths: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The row of each window, int64 [windows], counted from 0 in the order in which rows were begun.

    The window that takes the largest share of any limit comes first, ties in the order given; each goes to the first
    row that still has room for it, for every model.

    lengths: int [windows, models], in tokens; 0 where a model does not read the window. limits: int [models], the most
    tokens that a row may have.
    """
    lengths, limits = np.array(lengths, dtype=np.int64), np.array(limits, dtype=np.int64)
    assert lengths.shape[1:] == limits.shape
    assert (limits > 0).all()
    assert (lengths >= 0).all()
    assert (lengths <= limits).all(), "a window is longer than a row"
    order = np.argsort(-(lengths / limits).max(axis=1, initial=0), kind="stable")
    rows = np.empty(len(lengths), dtype=np.int64)
    rows[order] = _first_fit(lengths[order], limits)
    return rows


@njit(nogil=True, cache=True)
def _first_fit(lengths: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """First fit in the order given.

    The room in the rows is kept in a binary tree, whose node n has the children 2n and 2n + 1 and holds the most room
    of any row below it, for each model. A row is found from left to right, and a subtree without room is skipped.
    """
    windows, models = lengths.shape
    leaves = 1
    while leaves < windows:
        leaves *= 2
    room = np.empty((2 * leaves, models), dtype=np.int64)
    room[:] = limits
    rows = np.empty(windows, dtype=np.int64)
    for window in range(windows):
        node = 1
        while True:
            fits = True
            for model in range(models):
                fits &= lengths[window, model] <= room[node, model]
            if fits and node >= leaves:
                break
            if fits:
                node *= 2
                continue
            while node % 2 == 1:  # past the last subtree of its parent
                node //= 2
            node += 1
        rows[window] = node - leaves
        for model in range(models):
            room[node, model] -= lengths[window, model]
        while node > 1:
            node //= 2
            for model in range(models):
                room[node, model] = max(room[2 * node, model], room[2 * node + 1, model])
    return rows
