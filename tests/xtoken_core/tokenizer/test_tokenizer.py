import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_tokenizers import begin_with, mistral_file, special, write_byte_bpe, write_mistral_v1, write_tokenizer
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.establish import PROBE
from xtoken_core.vocabulary import TokenKind, VocabularyError

REAL = ["byte_bpe", "mistral_v1", "tekken"]
TEXTS = [
    "Hello world, 12345 + 3.14!",
    "  two  spaces\t\ttabs\r\nCRLF\n\n\n",
    "naïve café 日本語 한국어 😀👩‍👩‍👧 \u0000 \ufffd",
    " leading and trailing ",
    "<|im_star|> </ s> <s",
    "price <s>10</s> <|endoftext|><|bos|> <|im_end|><unk>",
]


def spelled(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
    return b"".join(tokenizer.vocabulary.token_bytes(i) for i in ids.tolist())


def small_bpe(
    vocab: dict[str, int] | None = None, merges: Sequence[tuple[str, str]] = (), dropout: float | None = None
) -> Backend:
    """A byte-level BPE, of single bytes without merges unless given others."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(letters if vocab is None else vocab, [*merges], dropout=dropout))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def edited(folder: Path, name: str, edit: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("text", TEXTS)
def test_ids_spell_the_text(name: str, text: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    prefix = b" " if tokenizer.vocabulary.dummy_prefix else b""
    assert spelled(tokenizer, tokenizer.encode_batch([text]).row(0)) == prefix + text.encode()


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="▁", exclude_categories=["Cs"])), max_size=4))
def test_plain_ids_spell_any_text(byte_bpe: Tokenizer, mistral_v1: Tokenizer, texts: list[str]) -> None:
    for tokenizer in (byte_bpe, mistral_v1):
        assert [spelled(tokenizer, ids) for ids in tokenizer.encode_plain(texts)] == [t.encode() for t in texts]


def test_the_converted_sentencepiece_gives_the_ids_of_sentencepiece(mistral_v1: Tokenizer) -> None:
    original = SentencePieceProcessor(model_file=str(mistral_file("tokenizer.model.v1")))
    texts = [*TEXTS, *list(topics.values())[:10]]
    assert [ids.tolist() for ids in mistral_v1.encode_batch(texts)] == [[1, *ids] for ids in original.encode(texts)]


def test_what_kind_each_id_is(mistral_v1: Tokenizer, tekken: Tokenizer) -> None:
    vocabulary = mistral_v1.vocabulary
    assert vocabulary.size == 32000
    assert np.flatnonzero(vocabulary.kind == TokenKind.SPECIAL).tolist() == [0, 1, 2]
    assert vocabulary.roles == {"unk": 0, "bos": 1, "eos": 2}
    assert vocabulary.dummy_prefix
    assert vocabulary.token_bytes(mistral_v1.backend.token_to_id("<0xE2>")) == b"\xe2"
    assert vocabulary.token_bytes(mistral_v1.backend.token_to_id("▁the")) == b" the"
    assert np.count_nonzero(tekken.vocabulary.kind == TokenKind.SPECIAL) == 1000
    assert not tekken.vocabulary.dummy_prefix


def test_the_letter_in_use_is_not_the_byte_token(mistral_v1: Tokenizer) -> None:
    letter = mistral_v1.backend.token_to_id("a")
    assert mistral_v1.vocabulary.lookup[b"a"] == mistral_v1.backend.token_to_id("<0x61>") < letter
    assert mistral_v1.id_of[b"a"] == letter


@pytest.mark.parametrize(("name", "mark"), [("byte_bpe", "<|im_start|>"), ("mistral_v1", "</s>"), ("tekken", "</s>")])
def test_marks_in_a_text_are_text_and_the_template_still_adds_its_own(
    name: str, mark: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    ids, plain = tokenizer.encode_batch([f"a {mark}b"]).row(0), tokenizer.encode_plain([f"a {mark}b"]).row(0)
    assert np.flatnonzero(tokenizer.vocabulary.kind[ids] == TokenKind.SPECIAL).tolist() == [0]
    assert ids[0] == tokenizer.vocabulary.roles["bos"]
    assert spelled(tokenizer, plain) == f"a {mark}b".encode()


def test_a_mark_that_is_not_declared_special_is_text_in_a_text_too(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.add_tokens(["<s>", "<think>"])
    backend.post_processor = begin_with("<s>", 256)
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {"bos_token": "<s>"}))
    text = "<s> <think>"
    assert tokenizer.encode_batch([text]).row(0)[[0, -1]].tolist() == [256, 257]
    assert spelled(tokenizer, tokenizer.encode_batch([text]).row(0)) == text.encode()
    assert spelled(tokenizer, tokenizer.encode_plain([text]).row(0)) == text.encode()


def test_a_unigram_model_reads_marks_as_text_though_they_are_among_its_pieces(tmp_path: Path) -> None:
    pieces = [(mark, 0.0) for mark in ("<unk>", "<s>", "</s>")] + [(piece, -5.0) for piece in {*PROBE, *"<>▁", "ab"}]
    backend = Backend(models.Unigram(pieces, 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    backend.add_special_tokens([special(mark) for mark in ("<unk>", "<s>", "</s>")])
    backend.post_processor = begin_with("<s>", 1)
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    ids = tokenizer.encode_batch(["ab</s> <s>ab"]).row(0)
    assert [tokenizer.vocabulary.texts[i] for i in ids] == ["<s>", "ab", *"</s>▁<s>", "ab"]
    assert spelled(tokenizer, tokenizer.encode_plain(["</s>"]).row(0)) == b"</s>"


def test_plain_encoding_skips_the_normaliser(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.normalizer = normalizers.NFC()
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    decomposed = "e\u0301"
    assert spelled(tokenizer, tokenizer.encode_batch([decomposed]).row(0)) == "é".encode()
    assert spelled(tokenizer, tokenizer.encode_plain([decomposed]).row(0)) == decomposed.encode()


def test_a_prefix_space_of_the_pre_tokenizer(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    assert tokenizer.vocabulary.dummy_prefix
    assert spelled(tokenizer, tokenizer.encode_plain(["a"]).row(0)) == b"a"


def test_metaspace_pre_tokenizer(tmp_path: Path, mistral_v1: Tokenizer) -> None:
    tokenizer = Tokenizer.load(write_mistral_v1(tmp_path, metaspace=True))
    assert tokenizer.vocabulary.fingerprint == mistral_v1.vocabulary.fingerprint
    assert spelled(tokenizer, tokenizer.encode_plain(["the end"]).row(0)) == b"the end"


@pytest.mark.parametrize("name", REAL)
def test_the_transformers_tokenizer_gives_the_same_ids(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    expected = AutoTokenizer.from_pretrained(tokenizer.folder, split_special_tokens=True)(TEXTS)["input_ids"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)] == expected


def test_nothing_to_encode(byte_bpe: Tokenizer) -> None:
    assert len(byte_bpe.encode_batch([])) == 0
    assert byte_bpe.encode_plain([""]).lengths.tolist() == [0]


def test_missing_bytes_are_no_reason_to_refuse(tmp_path: Path) -> None:
    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, small_bpe(letters), {}))
    assert spelled(tokenizer, tokenizer.encode_batch(["a Big cat"]).row(0)) == b"a ig cat"


def test_holes_in_the_ids(tmp_path: Path) -> None:
    letters = {letter: 2 * i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = Tokenizer.load(write_tokenizer(tmp_path, small_bpe(letters), {})).vocabulary
    assert vocabulary.size == 511
    assert set(vocabulary.kind[1::2]) == {TokenKind.UNUSED}
    assert vocabulary.texts[1] == ""


def test_added_tokens_that_are_text(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.add_tokens(["<think>", "é"])
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    ids = tokenizer.encode_batch(["<think>é"]).row(0)
    assert [tokenizer.vocabulary.token_bytes(i) for i in ids.tolist()] == [b"<think>", "é".encode()]


def test_dropout_of_the_file_is_off(tmp_path: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = small_bpe({word: i for i, word in enumerate([*letters, "ab"])}, [("a", "b")], dropout=0.5)
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    for encode in (tokenizer.encode_batch, tokenizer.encode_plain):
        assert encode(["ab"] * 50).lengths.tolist() == [1] * 50


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    assert tokenizer.encode_batch(["abc"]).lengths.tolist() == [3]
    assert tokenizer.encode_plain(["abc"]).lengths.tolist() == [3]


@pytest.mark.parametrize("tokenizer_class", [None, "GPT2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("template", [None, "<s> $A", "$A </s>", "<s> $A </s>"])
def test_bos_and_eos_are_those_that_transformers_adds_whatever_the_flags_say(
    tmp_path: Path, template: str | None, tokenizer_class: str | None
) -> None:
    backend = small_bpe()
    backend.add_special_tokens([special("<s>"), special("</s>")])
    if template is not None:
        backend.post_processor = processors.TemplateProcessing(template, None, [("<s>", 256), ("</s>", 257)])
    for bos, eos in product((None, False, True), repeat=2):
        config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": bos, "add_eos_token": eos}
        config |= {"tokenizer_class": tokenizer_class}
        folder = write_tokenizer(tmp_path, backend, {key: value for key, value in config.items() if value is not None})
        expected = AutoTokenizer.from_pretrained(folder)(["a b", ""])["input_ids"]
        assert [ids.tolist() for ids in Tokenizer.load(folder).encode_batch(["a b", ""])] == expected


def test_roles_in_all_their_spellings(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.add_special_tokens([special(name) for name in ("<s>", "<end>", "<|im_start|>", "<|im_end|>")])
    folder = write_tokenizer(tmp_path, backend, {"eos_token": {"content": "<end>"}, "pad_token": None})
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>", "unk_token": "<absent>"}))
    roles = Tokenizer.load(folder).vocabulary.roles
    assert roles == {"bos": 256, "eos": 257, "turn_start": 258, "turn_end": 259}


def test_padding_with_a_word_leaves_it_a_word(tmp_path: Path) -> None:
    vocabulary = Tokenizer.load(write_tokenizer(tmp_path, small_bpe(), {"pad_token": "!"})).vocabulary
    assert vocabulary.token_bytes(vocabulary.roles["pad"]) == b"!"


@pytest.mark.parametrize("write", [write_byte_bpe, write_mistral_v1])
def test_a_file_that_does_not_name_its_kind_of_model(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """As published for GPT-2, by a library before tokenizers 0.9."""
    folder = write(tmp_path)
    typed = Tokenizer.load(folder)
    untyped = Tokenizer.load(edited(folder, "tokenizer.json", lambda content: content["model"].pop("type")))
    assert untyped.vocabulary.fingerprint == typed.vocabulary.fingerprint
    for encoded in (untyped.encode_batch(TEXTS), untyped.encode_plain(TEXTS)):
        assert b"".join(spelled(untyped, ids) for ids in encoded).count(TEXTS[0].encode()) == 1


def test_a_refusal_names_the_tokenizer_once(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.normalizer = normalizers.Lowercase()
    with pytest.raises(VocabularyError) as refusal:
        Tokenizer.load(write_tokenizer(tmp_path, backend, {}))
    assert str(refusal.value).startswith(f"{tmp_path}: the tokens of a probe text do not spell it")
    assert str(refusal.value).count(str(tmp_path)) == 1


def test_a_word_piece_model_is_refused(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, Backend(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")), {})
    with pytest.raises(VocabularyError, match=r"WordPiece.*Use a tokenizer"):
        Tokenizer.load(folder)


def test_marks_at_the_end_of_words_are_refused(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, Backend(models.BPE({"a": 0}, [], end_of_word_suffix="</w>")), {})
    with pytest.raises(VocabularyError, match="end_of_word_suffix='</w>'"):
        Tokenizer.load(folder)


def test_a_tokenizer_of_no_known_family_is_refused(tmp_path: Path) -> None:
    backend = Backend(models.BPE({"a": 0}, []))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(VocabularyError, match="WhitespaceSplit"):
        Tokenizer.load(write_tokenizer(tmp_path, backend, {}))


@pytest.mark.parametrize("normalizer", [normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace("  ", " ")])
def test_changing_the_text_is_refused(tmp_path: Path, normalizer: normalizers.Normalizer) -> None:
    backend = small_bpe()
    backend.normalizer = normalizer
    with pytest.raises(VocabularyError, match=r"do not spell it: they say b'.*' where the text has b'.*'"):
        Tokenizer.load(write_tokenizer(tmp_path, backend, {}))


def test_an_added_token_that_loads_under_another_id_is_refused(tmp_path: Path) -> None:
    backend = small_bpe()
    backend.add_special_tokens([special("<s>")])
    folder = write_tokenizer(tmp_path, backend, {})
    edited(folder, "tokenizer.json", lambda content: content["added_tokens"][0].update(id=300))
    with pytest.raises(VocabularyError, match="'<s>' as id 300, but it loads as 256"):
        Tokenizer.load(folder)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
        Tokenizer.load(tmp_path / "absent" / "folder")
    folder = write_byte_bpe(tmp_path / "broken", vocab_size=300)
    (folder / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"tokenizer_config\.json is not valid JSON"):
        Tokenizer.load(folder)
    (folder / "tokenizer_config.json").unlink()
    edited(folder, "tokenizer.json", lambda content: content["model"].update(type="Unheard"))
    with pytest.raises(VocabularyError, match="cannot be loaded"):
        Tokenizer.load(folder)
