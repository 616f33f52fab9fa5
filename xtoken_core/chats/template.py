"""A model's chat template: messages -> the text that the model was trained to see."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

Message = Mapping[str, Any]

_CONFIG = "tokenizer_config.json"
_FILE = "chat_template.jinja"
_TODAY = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_DEFAULT = "default"  # among several templates with names, the one for plain chats


PROBE = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"})


class ChatError(ValueError):
    """A model without a usable chat template, or a chat that its template refuses; the message says which."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja with what it asks for.

    variables: `bos_token` and the like. day: templates that write today's date get this one, so that a chat is encoded
    alike every day.
    """

    source: str
    variables: Mapping[str, str] = field(default_factory=dict)
    day: date = date(2024, 7, 26)

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a chat, complete, without the beginning of another answer.

        Raises:
            ChatError: where the template refuses the chat (roles that do not alternate) or is broken.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        variables: dict[str, Any] = dict(self.variables)
        try:
            rendered: Any = render_jinja_template(
                [[dict(message) for message in messages]], chat_template=self._dated, **variables
            )
        except Exception as error:  # a program of its own: whatever it raises, it does not take this chat
            raise ChatError(f"the chat template refuses a chat: {error}") from error
        return rendered[0][0]

    @cached_property
    def _dated(self) -> str:
        """The source with the date in place of calls that ask for it; transformers lets no function be handed in."""
        dated = _TODAY.sub(lambda call: repr(self.day.strftime(call[2])), self.source)
        if re.search(r"strftime_now\s*\(", dated):
            raise ChatError(
                "it asks for today's date in a form that is not written out; write the date into the template"
            )
        return dated


def read_chat_template(folder: Path, day: date) -> ChatTemplate:
    """The template in a tokenizer's folder: `chat_template.jinja`, else the entry of `tokenizer_config.json`.

    Raises:
        ChatError: where there is none, or several and none is called default, or it does not take the simplest chat.
    """
    config = _config(folder)
    names = {key: config[key] for key in config if key.endswith("_token") and config[key]}
    variables = {key: name["content"] if isinstance(name, Mapping) else name for key, name in names.items()}
    variables = {key: name for key, name in variables.items() if isinstance(name, str)}
    template = ChatTemplate(_source(folder, config), variables, day)
    try:
        template.render(PROBE)
    except ChatError as error:
        problem = f"a question and an answer are too much for it: {error}; repair the template"
        raise ChatError(f"{folder}: {problem}") from error
    return template


def _source(folder: Path, config: Mapping[str, Any]) -> str:
    if (folder / _FILE).is_file():
        return (folder / _FILE).read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get(_DEFAULT)
    if not isinstance(found, str):
        raise ChatError(
            f"{folder} has no chat template (no {_FILE}, no default `chat_template` in {_CONFIG}), but the corpus has "
            f"chats: put the model's template there as {_FILE}; a teacher may also be left out of `teachers` of their "
            "source"
        )
    return found


def _config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
