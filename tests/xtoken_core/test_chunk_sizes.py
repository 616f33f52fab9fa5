import numpy as np
from fakes import fake_vocabulary

from xtoken_core.align import align_batch
from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.ragged import Ragged


def test_a_dummy_prefix_is_no_byte_of_the_text() -> None:
    student = fake_vocabulary([b" a", b"b", b"cd"], dummy_prefix=True)
    teacher = fake_vocabulary([b"a", b"b", b"c", b"d"])
    ids = Ragged.from_lists([[0, 1, 2], [0]], np.int32)
    theirs = Ragged.from_lists([[0, 1, 2, 3], [0]], np.int32)
    sizes = ChunkSizes.none()
    differing = sizes.add(ids, align_batch(ids, theirs, student, teacher), student)
    assert sizes.bytes.tolist()[:4] == [0, 3, 1, 0]
    assert (sizes.student[:3], sizes.teacher[:3]) == ([0, 4, 0], [0, 3, 1])
    assert differing.tolist() == [0, 0]
