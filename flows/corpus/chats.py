"""Chats: lists of messages as chat templates take them (`role`, `content`, ...), or as ShareGPT writes them."""

import json
from typing import Any, NoReturn

from flows.corpus.bad_rows import Bad, Reason, shortened

Message = dict[str, Any]

# What chat templates read of a message beside role, content and tool_calls; ids, times and ratings are left out.
_TEXT_KEYS = ("name", "tool_call_id", "reasoning_content", "thinking")
_SAYING = {"tool_calls", "reasoning_content", "thinking"}
# What templates know; of any other role nobody could say whether it is to be learned.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "tool": "tool"}


class _Unusable(Exception):
    """Ends the reading of a chat that is bad."""

    def __init__(self, reason: Reason, found: str) -> None:
        self.bad = Bad(reason, found)


def as_messages(value: Any) -> tuple[Message, ...] | Bad:
    """The messages of a chat; none if no message says anything.

    Each has `role` (one of `_ROLES`), `content` (a string or None) and those of `name`, `tool_calls`, `tool_call_id`,
    `reasoning_content` and `thinking` that are set. Content in parts is joined if all are text. ShareGPT's `from` and
    `value` become `role` and `content`. A chat may be JSON text, as in tables whose rows differ in shape.
    """
    try:
        chat = _parsed(value) if isinstance(value, str | bytes) else value
        if not isinstance(chat, list):
            _refuse(f"{shortened(value)} is not a list of messages")
        messages = tuple(_message(item) for item in chat)
    except _Unusable as problem:
        return problem.bad
    except RecursionError:
        return Bad(Reason.NOT_CHAT, "nested too deep")
    return messages if any(message["content"] or message.keys() & _SAYING for message in messages) else ()


def _refuse(found: str) -> NoReturn:
    raise _Unusable(Reason.NOT_CHAT, found)


def _parsed(value: str | bytes) -> Any:
    try:
        return json.loads(value)
    except UnicodeDecodeError:
        raise _Unusable(Reason.NOT_UTF8, shortened(value)) from None
    except ValueError:
        _refuse(f"{shortened(value)} is not a list of messages")


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        _refuse(f"the message {shortened(item)} has no role")
    message = _from_sharegpt(item) if "from" in item and "role" not in item else _from_roles(item)
    message |= {key: _text(item[key], key) for key in _TEXT_KEYS if item.get(key) is not None}
    if item.get("tool_calls"):
        message["tool_calls"] = _tool_calls(item["tool_calls"])
    return message


def _from_roles(item: dict[str, Any]) -> Message:
    role = _text(item.get("role"), "role")
    if role not in _ROLES:
        _refuse(f"role is {shortened(role)}, not one of {', '.join(_ROLES)}")
    return {"role": role, "content": _content(item.get("content"))}


def _from_sharegpt(item: dict[str, Any]) -> Message:
    speaker = item["from"]
    if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
        _refuse(f"`from` is {shortened(speaker)}, not one of {', '.join(_SHAREGPT_ROLES)}")
    return {"role": _SHAREGPT_ROLES[speaker], "content": _content(item.get("value"))}


def _content(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list):
        return "".join(_part(part) for part in value)
    return _text(value, "content")


def _part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        _refuse(f"a part of a content is {shortened(part)}, not text")
    return _text(part.get("text"), "text")


def _tool_calls(value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        _refuse(f"tool_calls is {shortened(value)}, not a list of calls")
    return [_plain(call) for call in value]


def _plain(value: Any) -> Any:
    """`value` itself, if JSON can hold it."""
    if isinstance(value, dict):
        return {_text(key, "a key of tool_calls"): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else _text(value, "a value of tool_calls")


def _text(value: Any, key: str) -> str:
    if isinstance(value, bytes):  # readers leave what is not UTF-8 as it is
        raise _Unusable(Reason.NOT_UTF8, f"{key} {shortened(value)}")
    if not isinstance(value, str):
        _refuse(f"{key} is {shortened(value)}, not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unusable(Reason.LONE_SURROGATE, f"{key} {shortened(value)}") from None
    return value
