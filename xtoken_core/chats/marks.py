"""Marks that a chat template writes and that its tokenizer does not have: it would spell them in pieces, like text."""

import re

from xtoken_core.chats.template import PROBE, ChatTemplate
from xtoken_core.tokenizer import Tokenizer

_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>")


def spelled_marks(tokenizer: Tokenizer, template: ChatTemplate) -> list[str]:
    """The marks like <|im_start|> around the simplest chat that are no tokens, in the order of their first use."""
    marks = dict.fromkeys(_MARK.findall(template.render(PROBE)))
    return [mark for mark in marks if tokenizer.backend.token_to_id(mark) is None]
