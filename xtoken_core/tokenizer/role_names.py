"""Which tokens of a tokenizer play which role: BOS, EOS and the marks of a chat's turns, by their names."""

from collections.abc import Collection, Mapping
from typing import Any

# Names that mean one thing wherever a tokenizer adds them; the first that it has is taken, after the config's own.
_WELL_KNOWN = {
    "bos": ("<|begin_of_text|>", "<bos>", "<s>"),
    "eos": ("<|end_of_text|>", "<eos>", "</s>", "<|endoftext|>"),
    "pad": ("<pad>", "<|finetune_right_pad_id|>"),
    "unk": ("<unk>",),
    "turn_start": ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|start|>"),
    "turn_end": ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"),
}


def find_roles(config: Mapping[str, Any], ids: Mapping[str, int], added: Collection[str]) -> dict[str, int]:
    """Role -> id, from the config's own names first and from well-known names where it is silent.

    `ids` are the token strings of the vocabulary; a name that is not among them is passed over, as models have no row
    for it. `added` are those that are no ordinary text: in Qwen's ranks "</s>" is one, and ends nothing but HTML.
    """
    roles = {}
    for role, well_known in _WELL_KNOWN.items():
        known = [name for name in well_known if name in added]
        names = [special_token(config, role)] if f"{role}_token" in config else known
        found = next((name for name in names if name in ids), None)
        if found is not None:
            roles[role] = ids[found]
    return roles


def special_token(config: Mapping[str, Any], role: str) -> str | None:
    """The token that the config names for `role`, None where it names none; it is a string or a {"content": ...}."""
    value = config.get(f"{role}_token")
    return value.get("content") if isinstance(value, Mapping) else value
