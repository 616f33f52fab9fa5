"""Tokenizers that change or lose text: refused, and on request loaded as well as can be."""

import json
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from real_tokenizers import begin_with, write_byte_bpe, write_tokenizer
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from xtoken_core.align import align_batch
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.tokenizer.establish import PROBE
from xtoken_core.tokenizer.spelling import WordSpelling
from xtoken_core.vocabulary import TokenKind, VocabularyError


def write_bert(folder: Path) -> Path:
    """An uncased WordPiece tokenizer of BERT's kind, trained on the Python documentation."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    marks = ["[CLS]", "[UNK]"]
    backend.train_from_iterator(
        topics.values(), trainers.WordPieceTrainer(vocab_size=1500, special_tokens=marks, show_progress=False)
    )
    backend.post_processor = begin_with("[CLS]", 0)
    return write_tokenizer(folder, backend, {"bos_token": "[CLS]"})


def write_normalised(folder: Path, normalizer: normalizers.Normalizer) -> Path:
    write_byte_bpe(folder)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.normalizer = normalizer
    backend.save(str(folder / "tokenizer.json"))
    return folder


def spelled(tokenizer: Tokenizer, text: str) -> str:
    ids = tokenizer.encode_batch([text]).row(0).tolist()
    return b"".join(tokenizer.vocabulary.token_bytes(i) for i in ids).decode()


def test_word_pieces_are_refused_unless_loss_is_allowed(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    with pytest.raises(VocabularyError, match=r"WordPiece model loses spaces.*load this one with lossy=True"):
        Tokenizer.load(folder)
    tokenizer = Tokenizer.load(folder, lossy=True)
    assert tokenizer.vocabulary.dummy_prefix
    assert 0.3 < tokenizer.probe_share < 0.9
    assert tokenizer.vocabulary.kind[:2].tolist() == [TokenKind.SPECIAL] * 2


def test_word_pieces_spell_what_the_text_has_most_often(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_bert(tmp_path), lossy=True)
    assert (
        spelled(tokenizer, "The object (a list), unhashable\n or none.") == " the object( a list), unhashable or none."
    )
    assert tokenizer.encode_plain(["The"]).row(0).tolist() == [tokenizer.id_of[b" the"]]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("word", " word"),
        ("##ing", "ing"),
        ("7", " 7"),
        (",", ","),
        ("##,", ","),
        ("日", "日"),
        ("カ", " カ"),
        ("é", " é"),
    ],
)
def test_spaces_of_word_pieces(token: str, expected: str) -> None:
    assert WordSpelling("##").spell(token) == expected.encode()


def test_word_pieces_align_with_the_true_text(tmp_path: Path, byte_bpe: Tokenizer) -> None:
    """Words whose letters are kept are exact; the capitals and the lost line end are not."""
    tokenizer = Tokenizer.load(write_bert(tmp_path), lossy=True)
    text = "an object of this list is a value.\nThe value of an object is the same object."
    batch = align_batch(
        byte_bpe.encode_batch([text]), tokenizer.encode_batch([text]), byte_bpe.vocabulary, tokenizer.vocabulary
    )
    assert 0.8 * batch.n_bytes[0] < batch.n_exact_bytes[0] < batch.n_bytes[0]


@pytest.mark.parametrize(
    "normalizer",
    [normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Nmt()],
    ids=["lower case", "white space", "ends", "control characters"],
)
def test_a_lossy_normaliser(normalizer: normalizers.Normalizer, tmp_path: Path) -> None:
    folder = write_normalised(tmp_path, normalizer)
    with pytest.raises(VocabularyError, match=r"do not spell it.*lossy=True"):
        Tokenizer.load(folder)
    tokenizer = Tokenizer.load(folder, lossy=True)
    assert 0.9 < tokenizer.probe_share < 1
    text = "Two  Words\n"
    assert spelled(tokenizer, text) == normalizer.normalize_str(text)
    assert not tokenizer.vocabulary.dummy_prefix


def test_stripped_accents(tmp_path: Path) -> None:
    normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    folder = write_normalised(tmp_path, normalizer)
    with pytest.raises(VocabularyError, match="do not spell it"):
        Tokenizer.load(folder)
    assert spelled(Tokenizer.load(folder, lossy=True), "naïve") == "naive"


def test_nothing_changes_for_a_tokenizer_that_loses_nothing(tmp_path: Path) -> None:
    folder = write_byte_bpe(tmp_path)
    strict, lossy = Tokenizer.load(folder), Tokenizer.load(folder, lossy=True)
    assert strict.probe_share == lossy.probe_share == 1
    assert strict.vocabulary.fingerprint == lossy.vocabulary.fingerprint


def test_what_spells_nothing_at_all_is_refused_even_so(tmp_path: Path) -> None:
    backend = Backend(models.WordPiece({"[UNK]": 0, "zzz": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    folder = write_tokenizer(tmp_path, backend, {})
    assert PROBE.count("zzz") == 0
    with pytest.raises(VocabularyError, match="do not spell it: they say b''"):
        Tokenizer.load(folder, lossy=True)


def test_a_model_whose_spelling_is_unknown_is_refused_even_so(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, Backend(models.WordLevel({"a": 0}, unk_token="a")), {})
    assert json.loads((folder / "tokenizer.json").read_text())["model"]["type"] == "WordLevel"
    with pytest.raises(VocabularyError, match=r"WordLevel model .* Use a tokenizer whose model is BPE or Unigram\.$"):
        Tokenizer.load(folder, lossy=True)
