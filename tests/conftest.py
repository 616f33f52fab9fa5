"""Fixtures shared by all tests: real tokenizers, made once a session."""

import functools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from real_tokenizers import REAL_TOKENIZERS, write_byte_bpe, write_mistral_v1, write_tekken

from xtoken_core.tokenizer import Tokenizer

# The same examples at every run, and no time limit for one: a test must not fail because the machine is busy.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def byte_bpe(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small byte-level BPE with BOS."""
    return Tokenizer.load(write_byte_bpe(tmp_path_factory.mktemp("byte_bpe")))


@pytest.fixture(scope="session")
def mistral_v1(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """32k SentencePiece with byte fallback and dummy prefix."""
    return Tokenizer.load(write_mistral_v1(tmp_path_factory.mktemp("mistral_v1")))


@pytest.fixture(scope="session")
def tekken(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """131k byte-level BPE with a thousand special tokens."""
    return Tokenizer.load(write_tekken(tmp_path_factory.mktemp("tekken")))


@pytest.fixture(scope="session")
def real_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    """One of `REAL_TOKENIZERS` by its name, loaded when first asked for."""
    folder = tmp_path_factory.mktemp("real")
    return functools.cache(lambda name: Tokenizer.load(REAL_TOKENIZERS[name](folder / name)))


@pytest.fixture(scope="session", autouse=True)
def own_digest_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """File digests are remembered in a folder of the test session, not in the user's; subprocesses inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XTOKEN_CACHE_DIR", str(tmp_path_factory.mktemp("xtoken_cache")))
        yield
