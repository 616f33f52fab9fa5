"""What a tokenizer of the GPT-2 kind joins."""

from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from fakes import fake_vocabulary
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from xtoken_core.losses.prefix_joins import PrefixJoins
from xtoken_core.tokenizer import Tokenizer

TOKENS = ["t", "h", "e", "n", "Ċ", "Ġ", "th", "he", "the", "en", "ĊĊ", "Ġt", "Ã", "©", "Ã©"]
MERGES = [("h", "e"), ("t", "h"), ("th", "e"), ("e", "n"), ("Ċ", "Ċ"), ("Ġ", "t"), ("Ã", "©")]
CONTINUATIONS = [b"e", b"en", b"n", b" t", b"\n", b"t\n\nt", b"\xa9", b"h"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("student")
    backend = Backend(models.BPE({token: i for i, token in enumerate(TOKENS)}, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def joined(student: Tokenizer, last: bytes) -> dict[bytes, bool]:
    teacher = fake_vocabulary(CONTINUATIONS)
    ids = np.full(len(CONTINUATIONS), student.vocabulary.lookup[last])
    found = PrefixJoins(student, teacher).of(ids, teacher.offsets[:-1])
    return dict(zip(CONTINUATIONS, found.tolist(), strict=True))


def test_what_becomes_one_token_with_the_token_before_is_joined(student: Tokenizer):
    assert joined(student, b"th")[b"e"]
    assert joined(student, b" ")[b"t\n\nt"]


def test_what_joins_within_itself_first_is_not(student: Tokenizer):
    """By the merges "t" + "hen" would be "t" "he" "n", but for "th", which comes later than "he"."""
    found = joined(student, b"t")
    assert not found[b"e"]
    assert not found[b"n"]
    assert found[b"h"]
    assert not joined(student, b"n")[b"en"]


def test_white_space_is_judged_as_before_a_word(student: Tokenizer):
    """At the end of a text two newlines are one token, before a word they are not."""
    assert student.encode_plain(["\n\n"]).row(0).tolist() == [TOKENS.index("ĊĊ")]
    assert not joined(student, b"\n")[b"\n"]


def test_what_is_no_text_is_never_joined(student: Tokenizer):
    assert not joined(student, b"t")[b"\xa9"]


def test_answers_do_not_depend_on_what_was_asked_before(student: Tokenizer):
    teacher = fake_vocabulary(CONTINUATIONS)
    joins = PrefixJoins(student, teacher)
    ids = np.repeat(np.arange(len(TOKENS)), len(CONTINUATIONS))
    at = np.tile(teacher.offsets[:-1], len(TOKENS))
    together = joins.of(ids, at)
    assert together.tolist() == joins.of(ids, at).tolist()
    assert together.tolist() == [bool(PrefixJoins(student, teacher).of(ids[[i]], at[[i]])[0]) for i in range(len(ids))]


def test_a_token_that_its_bytes_are_not_encoded_to_joins_nothing(tmp_path: Path):
    """In WordPiece "##ing" spells "ing", which alone is another token: nothing can be asked about what follows it."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator(list(topics.values())[:20], trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    wordpiece = Tokenizer.load(tmp_path, lossy=True)
    inside = backend.token_to_id("##ing")
    assert wordpiece.vocabulary.token_bytes(inside) == b"ing"
    teacher = fake_vocabulary([bytes([byte]) for byte in b"abcdefghijklmnopqrstuvwxyz"])
    joined = PrefixJoins(wordpiece, teacher).of(np.full(teacher.size, inside), teacher.offsets[:-1])
    assert not joined.any()
