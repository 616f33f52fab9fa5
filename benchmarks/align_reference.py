"""The aligner that people write first: the whole table of edit distances in plain Python, and a way back through it.

What the library computes is compared with it: the cost of its ways, the chunks that they make, and the time.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby, pairwise

Place = tuple[int, int]
Chunk = tuple[int, int, bool]  # student tokens read, teacher tokens read, exact


def align_tokens(student: Sequence[bytes], teacher: Sequence[bytes]) -> list[Chunk]:
    """The chunks of two token sequences without special or empty tokens, by a cheapest way from text to text."""
    a, b = b"".join(student), b"".join(teacher)
    return chunks_of(student, teacher, a_cheapest_way(a, b))


def distances(a: bytes, b: bytes) -> list[list[int]]:
    """Row x, column y: the cost of turning the first x bytes of `a` into the first y of `b`, at one per edit."""
    table = [list(range(len(b) + 1))]
    for x, byte in enumerate(a, 1):
        before, row = table[-1], [x]
        for y, other in enumerate(b, 1):
            row.append(min(before[y - 1] + (byte != other), before[y] + 1, row[y - 1] + 1))
        table.append(row)
    return table


def a_cheapest_way(a: bytes, b: bytes) -> list[Place]:
    """The places (x, y) that a cheapest way passes, both ends included."""
    table = distances(a, b)
    way = [(len(a), len(b))]
    while way[-1] != (0, 0):
        way.append(next(steps_back(a, b, table, way[-1])))
    return way[::-1]


def all_cheapest_ways(a: bytes, b: bytes) -> list[list[Place]]:
    """Every one of them: exponentially many, so only for very short texts."""
    table = distances(a, b)
    done, open_ways = [], [[(len(a), len(b))]]
    while open_ways:
        way = open_ways.pop()
        if way[-1] == (0, 0):
            done.append(way[::-1])
        open_ways += [[*way, place] for place in steps_back(a, b, table, way[-1])]
    return done


def steps_back(a: bytes, b: bytes, table: list[list[int]], place: Place) -> Iterator[Place]:
    """The places that a cheapest way to this one can come from."""
    x, y = place
    if x and y and table[x][y] == table[x - 1][y - 1] + (a[x - 1] != b[y - 1]):
        yield x - 1, y - 1
    if x and table[x][y] == table[x - 1][y] + 1:
        yield x - 1, y
    if y and table[x][y] == table[x][y - 1] + 1:
        yield x, y - 1


def chunks_of(student: Sequence[bytes], teacher: Sequence[bytes], way: Sequence[Place]) -> list[Chunk]:
    """Chunks end where tokens of both sides end at a place of the way where something corresponds."""
    a, b = b"".join(student), b"".join(teacher)
    i_of = {byte: i for i, byte in enumerate(accumulate(map(len, student), initial=0))}
    j_of = {byte: j for j, byte in enumerate(accumulate(map(len, teacher), initial=0))}
    ends = [(0, 0)] + [(i_of[x], j_of[y]) for x, y in corresponding(a, b, way) if x in i_of and y in j_of]
    ends = [end for end, _ in groupby(ends)]
    return [
        (i, j, b"".join(student[before_i:i]) == b"".join(teacher[before_j:j]))
        for (before_i, before_j), (i, j) in pairwise(ends)
    ]


def corresponding(a: bytes, b: bytes, way: Sequence[Place]) -> Iterator[Place]:
    """The places of a way but those inside an edit that replaces bytes by more or fewer.

    An edit is a longest part of the way without equal bytes. Where it has as many on both sides, each stands for one.
    """
    steps = pairwise(way)
    yield way[0]
    x, y = way[0]
    for same, part in groupby(steps, lambda step: _is_same(a, b, step)):
        places = [end for _, end in part]
        to_x, to_y = places[-1]
        if same:
            yield from places
        elif to_x - x == to_y - y:
            yield from ((x + k, y + k) for k in range(1, to_x - x + 1))
        else:
            yield to_x, to_y
        x, y = to_x, to_y


def _is_same(a: bytes, b: bytes, step: tuple[Place, Place]) -> bool:
    (x, y), (to_x, to_y) = step
    return to_x > x and to_y > y and a[x] == b[y]
