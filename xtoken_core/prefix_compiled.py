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
def cell_masses(
    topk_ids: np.ndarray,
    masses: np.ndarray,
    atom: np.ndarray,
    canonical: np.ndarray,
    parent: np.ndarray,
    order: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Teacher masses by cell, float64 [N, k + 1] and not normalised, and the cell of each student id, int32 [N, Vs]."""
    rows, k = topk_ids.shape
    teacher_mass = np.zeros((rows, k + 1))
    student_cell = np.empty((rows, len(order)), dtype=np.int32)
    cell_of_atom = np.full(len(order), -1, dtype=np.int32)  # by student id; emptied again after each row
    canvas = np.empty(len(order), dtype=np.int32)
    for row in range(rows):
        atoms = atom[topk_ids[row]]
        cells = _open_cells(atoms, cell_of_atom)
        for slot in range(k):
            cell = _teacher_cell(canonical[topk_ids[row, slot]], atom, parent, cell_of_atom)
            teacher_mass[row, cell] += masses[row, slot]
        paint(start[atoms[cells]], end[atoms[cells]], cells, k, canvas)
        student_cell[row, order] = canvas
        if np.any(canvas == k):
            teacher_mass[row, k] += masses[row, k]
        else:
            teacher_mass[row, k] = 0.0
        cell_of_atom[atoms[cells]] = -1
    return teacher_mass, student_cell


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


@njit(nogil=True, cache=True)
def _teacher_cell(token: int, atom: np.ndarray, parent: np.ndarray, cell_of_atom: np.ndarray) -> int:
    """The cell of the longest prefix of `token` (canonical) that has one, else the rest cell, -1."""
    while token >= 0:
        if atom[token] >= 0 and cell_of_atom[atom[token]] >= 0:
            return cell_of_atom[atom[token]]
        token = parent[token]
    return -1
