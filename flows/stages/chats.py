"""Chats of a windows shard -> token ids, by the template in the tokenizer's folder."""

import functools
import json
import logging
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from flows.config import RunConfig
from storage.hashing import fingerprint
from xtoken_core.chats import ChatTemplate, EncodedRows, encode_chats, read_chat_template, spelled_marks
from xtoken_core.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@functools.cache  # once, however many stages and shards need the template
def _warn_of_marks(folder: Path, marks: tuple[str, ...]) -> None:
    if marks:
        logger.warning(
            "%s: its chat template writes %s, which its tokenizer does not have as tokens and spells in pieces: check "
            "that template and tokenizer belong together, or add them as special tokens",
            folder,
            ", ".join(marks),
        )


class ChatsEncoder:
    """Encodes chats for one model. The template is read when it is needed first: most corpora have no chats."""

    def __init__(self, config: RunConfig, tokenizer: Tokenizer) -> None:
        self._options = config.chats
        self._tokenizer = tokenizer

    @cached_property
    def template(self) -> ChatTemplate:
        """The model's own (ChatError if it has none); a warning says what of it the tokenizer spells in pieces."""
        template = read_chat_template(self._tokenizer.folder, self._options.day)
        _warn_of_marks(self._tokenizer.folder, tuple(spelled_marks(self._tokenizer, template)))
        return template

    @cached_property
    def fingerprint(self) -> str:
        """Of all that determines the ids of a chat, but the tokenizer."""
        template = self.template
        return fingerprint(
            [template.source, dict(template.variables), template.day.isoformat(), self._options.thinking]
        )

    def encode(self, windows: pa.Table) -> EncodedRows:
        """The rows of a shard; chats that the template refuses have no tokens, and are logged with an example."""
        chats = [json.loads(messages) for messages in windows["messages"].to_pylist()]
        encoded = encode_chats(self._tokenizer, self.template, chats, self._options.thinking == "keep")
        if encoded.refused:
            first = encoded.refused[0]
            logger.warning(
                "%s: its chat template refuses %d of %d chats, which this model is not used for; window %016x: %s",
                self._tokenizer.folder,
                len(encoded.refused),
                len(chats),
                windows["window_id"][first.row].as_py(),
                first.reason,
            )
        return encoded
