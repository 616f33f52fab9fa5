import numpy as np
from fakes import fake_vocabulary

from xtoken_core.ragged import Ragged
from xtoken_core.text_bytes import token_bytes


def test_special_tokens_spell_nothing_and_a_dummy_space_is_not_text() -> None:
    tokens = ["<s>", b" a", b"b", "</s>", b" "]
    ids = Ragged.from_lists([[0, 1, 2, 1, 3], [2, 1], [4, 1], [3, 0], []], np.int32)
    without = token_bytes(ids, fake_vocabulary(tokens))
    assert without.tolist() == [0, 2, 1, 2, 0, 1, 2, 1, 2, 0, 0]
    with_dummy = token_bytes(ids, fake_vocabulary(tokens, dummy_prefix=True))
    assert with_dummy.tolist() == [0, 1, 1, 2, 0, 1, 2, 0, 2, 0, 0]
