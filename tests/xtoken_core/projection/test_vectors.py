from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import fake_vocabulary
from transformers import LlamaConfig, LlamaForCausalLM

from xtoken_core.models import ModelError
from xtoken_core.projection.split import split_tokens
from xtoken_core.projection.vectors import averaged_vectors, encoded_vectors, input_embeddings, sentence_encoder
from xtoken_core.tokenizer import Tokenizer


def test_the_mean_of_the_pieces(monkeypatch: pytest.MonkeyPatch, byte_bpe: Tokenizer) -> None:
    monkeypatch.setattr("xtoken_core.projection.vectors._TOKENS_PER_BLOCK", 2)
    vocabulary = fake_vocabulary([b"statement", "<s>", b"a", None, b"\xe2\x82", b" zq!"])
    embeddings = np.random.default_rng(0).normal(size=(byte_bpe.vocabulary.size, 6))
    vectors = averaged_vectors(vocabulary, byte_bpe, embeddings)
    assert (vectors.dtype, vectors.shape) == (np.float16, (6, 6))
    for i in (0, 2, 4, 5):
        pieces = split_tokens(vocabulary, np.array([i]), byte_bpe).values
        mean = np.mean([embeddings[p] / np.linalg.norm(embeddings[p]) for p in pieces], axis=0)
        assert vectors[i].tolist() == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=2e-3)
    assert not vectors[[1, 3]].any()


def test_equal_tokens_of_two_vocabularies_meet(byte_bpe: Tokenizer, mistral_v1: Tokenizer) -> None:
    embeddings = np.random.default_rng(0).normal(size=(byte_bpe.vocabulary.size, 16))
    ours, theirs = (averaged_vectors(side.vocabulary, byte_bpe, embeddings) for side in (byte_bpe, mistral_v1))
    for token in (b"the", b" in", b"\n"):
        assert np.array_equal(ours[byte_bpe.id_of[token]], theirs[mistral_v1.id_of[token]])


def test_too_few_embeddings(byte_bpe: Tokenizer) -> None:
    with pytest.raises(ValueError, match="10 embeddings for 2,000 ids"):
        averaged_vectors(byte_bpe.vocabulary, byte_bpe, np.zeros((10, 4)))


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
    assert found.dtype == np.float32
    assert np.array_equal(found, model.get_input_embeddings().weight.detach().float().numpy())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds embed_tokens\.weight, the input embeddings"):
        input_embeddings(tmp_path)
    with pytest.raises(ModelError, match="cannot open a model"):
        input_embeddings(tmp_path / "nowhere")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match="pip install sentence-transformers"):
        sentence_encoder("all-MiniLM-L6-v2")
