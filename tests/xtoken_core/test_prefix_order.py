import numpy as np
from fakes import fake_vocabulary, reproducible, vocabularies
from hypothesis import given

from xtoken_core.prefix_compiled import paint
from xtoken_core.prefix_order import PrefixOrder
from xtoken_core.vocabulary import Vocabulary


def behind(vocabulary: Vocabulary, token_id: int) -> set[int]:
    spelled = vocabulary.token_bytes(token_id)
    if not spelled:
        return {token_id}
    return {other for other in range(vocabulary.size) if vocabulary.token_bytes(other).startswith(spelled)}


@reproducible
@given(vocabularies())
def test_each_slice_holds_exactly_the_extensions_of_its_token(vocabulary):
    prefix_order = PrefixOrder.of(vocabulary)
    assert sorted(prefix_order.order) == list(range(vocabulary.size))
    for token_id in range(vocabulary.size):
        held = prefix_order.order[prefix_order.start[token_id] : prefix_order.end[token_id]]
        assert set(held.tolist()) == behind(vocabulary, token_id)


def test_a_token_stands_before_its_extensions():
    prefix_order = PrefixOrder.of(fake_vocabulary([b"abc", b"ab", b"a", b"b"]))
    places = np.argsort(prefix_order.order)
    assert places[2] < places[1] < places[0]


def test_paint_puts_inner_slices_over_outer_ones_and_the_last_of_equals_on_top():
    canvas = np.empty(8, dtype=np.int32)
    starts, ends, colours = np.array([2, 0, 2, 6]), np.array([4, 5, 4, 7]), np.array([1, 2, 3, 4], dtype=np.int32)
    paint(starts, ends, colours, 9, canvas)
    assert canvas.tolist() == [2, 2, 3, 3, 2, 9, 4, 9]
