from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from fakes import fake_vocabulary
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from xtoken_core.models import ModelError
from xtoken_core.projection.split import split_tokens
from xtoken_core.projection.vectors import averaged_vectors, encoded_vectors, input_embeddings, sentence_encoder
from xtoken_core.tokenizer import Tokenizer


def marked(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The same with one more special token, behind all others."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens(["<image>"])
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def test_the_mean_of_the_pieces(monkeypatch: pytest.MonkeyPatch, byte_bpe: Tokenizer) -> None:
    monkeypatch.setattr("xtoken_core.projection.vectors._TOKENS_PER_BLOCK", 2)
    vocabulary = fake_vocabulary([b"statement", "<s>", b"a", None, b"\xe2\x82", b" zq!"])
    embeddings = np.random.default_rng(0).normal(size=(byte_bpe.vocabulary.size, 6))
    vectors = averaged_vectors(vocabulary, byte_bpe, torch.from_numpy(embeddings))
    assert (vectors.dtype, vectors.shape) == (np.float16, (6, 6))
    for i in (0, 2, 4, 5):
        pieces = split_tokens(vocabulary, np.array([i]), byte_bpe).values
        mean = np.mean([embeddings[p] / np.linalg.norm(embeddings[p]) for p in pieces], axis=0)
        assert vectors[i].tolist() == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=2e-3)
    assert not vectors[[1, 3]].any()


def test_equal_tokens_of_two_vocabularies_meet(byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> None:
    embeddings = torch.randn(byte_bpe.vocabulary.size, 16)
    ours, theirs = (averaged_vectors(side.vocabulary, byte_bpe, embeddings) for side in (byte_bpe, mistral_v1))
    for token in (b"the", b" in", b"\n"):
        assert np.array_equal(ours[byte_bpe.id_of[token]], theirs[mistral_v1.id_of[token]])


def test_stored_types_are_converted_block_by_block(byte_bpe: Tokenizer) -> None:
    stored = torch.randn(byte_bpe.vocabulary.size, 16).bfloat16()
    found, expected = (averaged_vectors(byte_bpe.vocabulary, byte_bpe, e) for e in (stored, stored.float()))
    assert np.array_equal(found, expected)


def test_every_text_has_an_embedding(byte_bpe: Tokenizer) -> None:
    with pytest.raises(ModelError, match="are 10 embeddings, but the tokenizer's text goes up to id 1,999: give the"):
        averaged_vectors(byte_bpe.vocabulary, byte_bpe, torch.zeros(10, 4))


def test_marks_behind_the_text_need_no_embedding(byte_bpe: Tokenizer, tmp_path: Path) -> None:
    with_mark = marked(byte_bpe, tmp_path)
    n_text = byte_bpe.vocabulary.size
    assert with_mark.vocabulary.size == n_text + 1
    embeddings = torch.randn(n_text, 4)
    found, expected = (averaged_vectors(byte_bpe.vocabulary, one, embeddings) for one in (with_mark, byte_bpe))
    assert np.array_equal(found, expected)
    with pytest.raises(ModelError):
        averaged_vectors(byte_bpe.vocabulary, with_mark, embeddings[:-1])


def test_marks_are_no_pieces(tmp_path: Path) -> None:
    model = tokenizers.models.BPE({"a": 0, "b": 1, "<unk>": 2}, [], unk_token="<unk>")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<unk>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path, lossy=True)
    vectors = averaged_vectors(fake_vocabulary([b"ab", b"zz", b"za"]), tokenizer, torch.ones(2, 4))
    assert vectors.tolist() == [[0.5] * 4, [0] * 4, [0.5] * 4]


def test_texts_through_an_encoder() -> None:
    vocabulary = fake_vocabulary([b"ab", "<s>", b"\xe2\x82", b"abc", None])
    vectors = encoded_vectors(vocabulary, lambda texts: np.array([[len(text), 0.0] for text in texts]))
    assert vectors.tolist() == [[1, 0], [0, 0], [0, 0], [1, 0], [0, 0]]


def test_only_the_embeddings_of_a_model_are_read(tmp_path: Path) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=40, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    found = input_embeddings(tmp_path)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, model.get_input_embeddings().weight)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds embed_tokens\.weight, the input embeddings"):
        input_embeddings(tmp_path)
    with pytest.raises(ModelError, match="cannot open a model"):
        input_embeddings(tmp_path / "nowhere")


SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {"vocab_size": 100, "num_key_value_heads": 1, "head_dim": 8} | SIZES


@pytest.fixture
def multimodal(tmp_path: Path) -> Gemma3ForConditionalGeneration:
    """Reads text and images; saved in `tmp_path`."""
    vision = {"image_size": 28, "patch_size": 14} | SIZES
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=TEXT, vision_config=vision))
    model.save_pretrained(tmp_path)
    return model


def rename(path: Path, names: dict[str, str]) -> None:
    tensors = load_file(path)
    save_file({names.get(key, key): tensor for key, tensor in tensors.items()}, path, {"format": "pt"})


def test_multimodal_models(multimodal: Gemma3ForConditionalGeneration, tmp_path: Path) -> None:
    assert torch.equal(input_embeddings(tmp_path), multimodal.get_input_embeddings().weight)


def test_embeddings_that_are_stored_under_another_name(
    multimodal: Gemma3ForConditionalGeneration, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    stored = next(key for key in load_file(path) if key.endswith(".embed_tokens.weight"))
    rename(path, {stored: "thinker.text.embed_tokens.weight"})
    extra = {"audio.embed_tokens.weight": torch.zeros(7, 16), "x_embed_tokens.weight": torch.zeros(100, 16)}
    save_file(extra, tmp_path / "others.safetensors")
    assert torch.equal(input_embeddings(tmp_path), multimodal.get_input_embeddings().weight)
    save_file({"audio.embed_tokens.weight": torch.zeros(100, 16)}, tmp_path / "others.safetensors")
    with pytest.raises(ModelError, match="the input embeddings: save the model again"):
        input_embeddings(tmp_path)


@pytest.mark.usefixtures("multimodal")
def test_weights_that_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read .*: copy or download the model again"):
        input_embeddings(tmp_path)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match="pip install sentence-transformers"):
        sentence_encoder("all-MiniLM-L6-v2")
