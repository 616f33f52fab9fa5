"""The compiled loops over a vocabulary in prefix order.

All of them are one file, because numba renews a cached function only when the function's own file changes, not when the
file of a function that it calls does.
"""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def subtree_sizes(parent: np.ndarray, by_length: np.ndarray) -> np.ndarray:
    """How many tokens stand in the slice of each token, itself included: int32 [V]."""
    sizes = np.ones(len(parent), dtype=np.int32)
    for token in by_length[::-1]:
        if parent[token] >= 0:
            sizes[parent[token]] += sizes[token]
    return sizes


@njit(nogil=True, cache=True)
def places_in_order(parent: np.ndarray, by_length: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Each token takes the first free place of its parent's slice and claims as many as its own subtree needs."""
    places = np.empty(len(parent), dtype=np.int32)
    free_inside = np.empty(len(parent), dtype=np.int32)
    free_outside = 0
    for token in by_length:
        above = parent[token]
        if above < 0:
            places[token] = free_outside
            free_outside += sizes[token]
        else:
            places[token] = free_inside[above]
            free_inside[above] += sizes[token]
        free_inside[token] = places[token] + 1
    return places


@njit(nogil=True, cache=True)
def paint(starts: np.ndarray, ends: np.ndarray, colours: np.ndarray, background: int, canvas: np.ndarray) -> None:
    """Gives each place of `canvas` the colour of the innermost slice `starts[i]:ends[i]` around it, else `background`.

    The slices are nested or disjoint, as those of a PrefixOrder are; of equal slices the last one wins.
    """
    canvas[:] = background
    for i in np.argsort(starts, kind="mergesort"):
        canvas[starts[i] : ends[i]] = colours[i]


@njit(nogil=True, cache=True)
def masses_by_prefix(
    probs: np.ndarray, topk_ids: np.ndarray, order: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Sums `probs` [N, columns] by the longest stored byte-prefix of each token: float64 [N, k + 1], last the rest.

    Where several stored tokens have equal bytes the most probable one holds the sum.
    """
    rows, k = topk_ids.shape
    masses = np.zeros((rows, k + 1))
    holder = np.empty(len(order), dtype=np.int32)
    slots = np.arange(k - 1, -1, -1, dtype=np.int32)
    for row in range(rows):
        stored = topk_ids[row, ::-1]
        paint(start[stored], end[stored], slots, k, holder)
        _add_by_holder(probs[row], order, holder, masses[row])
    return masses


@njit(nogil=True, cache=True)
def _add_by_holder(probs: np.ndarray, order: np.ndarray, holder: np.ndarray, masses: np.ndarray) -> None:
    """Adds each token's probability to its holder's mass; neighbours mostly share one, so it is kept in a register."""
    current, mass = holder[0], 0.0
    for place, token in enumerate(order):
        if holder[place] != current:
            masses[current] += mass
            current, mass = holder[place], 0.0
        if token < len(probs):
            mass += probs[token]
    masses[current] += mass


@njit(nogil=True, cache=True)
def cell_segments(
    longest: np.ndarray,
    exact: np.ndarray,
    masses: np.ndarray,
    parent: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Teacher masses by cell, float64 [N, R + 1] and not normalised; ends and cells of segments, int32 [N, S].

    A row has R byte strings, and S is the segments of the row that has most; the others get empty ones behind theirs.

    longest: int32 [N, R], the longest student token that each string begins with, -1 for none; those that no string
        can be equal to may be passed over. exact: bool [N, R], it is the whole string. masses: float64 [N, R + 1], the
        last is the rest. parent: of the student's tokens. start, end: of their slices in the order by prefix.
    """
    rows, columns = longest.shape
    teacher_mass = np.zeros((rows, columns + 1))
    segment_end = np.full((rows, 2 * columns + 1), len(start), dtype=np.int32)
    segment_cell = np.full((rows, 2 * columns + 1), columns, dtype=np.int32)
    cell_of_atom = np.full(len(start), -1, dtype=np.int32)  # by student id; emptied again after each row
    most = 0
    for row in range(rows):
        atoms = np.where(exact[row], longest[row], -1)
        cells = _open_cells(atoms, cell_of_atom)
        for slot in range(columns):
            token = longest[row, slot]
            while token >= 0 and cell_of_atom[token] < 0:
                token = parent[token]
            teacher_mass[row, cell_of_atom[token] if token >= 0 else columns] += masses[row, slot]
        opened = atoms[cells]
        count = _cut(start[opened], end[opened], cells, segment_end[row], segment_cell[row])
        _close_rest(segment_cell[row, :count], masses[row, columns], teacher_mass[row])
        cell_of_atom[opened] = -1
        most = max(most, count)
    return teacher_mass, segment_end[:, :most].copy(), segment_cell[:, :most].copy()


@njit(nogil=True, cache=True)
def _cut(
    starts: np.ndarray, ends: np.ndarray, cells: np.ndarray, segment_end: np.ndarray, segment_cell: np.ndarray
) -> int:
    """Cuts all places where the innermost of the nested or disjoint, non-empty slices `starts[i]:ends[i]` changes.

    Writes where each segment ends and the cell of its slice, in rows that are full of the last place and the rest cell;
    returns how many segments there are.
    """
    around = np.empty(len(starts) + 1, dtype=np.int32)  # the slices around the current place, innermost last
    depth, count = 0, 0
    for i in np.argsort(starts):
        while depth and ends[around[depth - 1]] <= starts[i]:
            depth -= 1
            count = _close(ends[around[depth]], cells[around[depth]], count, segment_end, segment_cell)
        cell = cells[around[depth - 1]] if depth else segment_cell[-1]
        count = _close(starts[i], cell, count, segment_end, segment_cell)
        around[depth] = i
        depth += 1
    while depth:
        depth -= 1
        count = _close(ends[around[depth]], cells[around[depth]], count, segment_end, segment_cell)
    return _close(segment_end[-1], segment_cell[-1], count, segment_end, segment_cell)


@njit(nogil=True, cache=True)
def _close(place: int, cell: int, count: int, segment_end: np.ndarray, segment_cell: np.ndarray) -> int:
    """Ends a segment at `place` unless it would be empty; returns how many there are."""
    if place == (segment_end[count - 1] if count else 0):
        return count
    segment_end[count], segment_cell[count] = place, cell
    return count + 1


@njit(nogil=True, cache=True)
def _close_rest(segment_cell: np.ndarray, rest: float, teacher_mass: np.ndarray) -> None:
    """Adds the record's rest to the last cell, or empties that cell where none of the segments is its."""
    last = len(teacher_mass) - 1
    teacher_mass[last] = teacher_mass[last] + rest if np.any(segment_cell == last) else 0.0


@njit(nogil=True, cache=True)
def _open_cells(atoms: np.ndarray, cell_of_atom: np.ndarray) -> np.ndarray:
    """The slots whose atom, a student id or -1, no earlier slot has: each opens a cell, noted in `cell_of_atom`."""
    opened = np.empty(len(atoms), dtype=np.int32)
    count = 0
    for slot, student_id in enumerate(atoms):
        if student_id >= 0 and cell_of_atom[student_id] < 0:
            cell_of_atom[student_id] = slot
            opened[count] = slot
            count += 1
    return opened[:count]
