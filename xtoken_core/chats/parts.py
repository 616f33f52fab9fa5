"""The contents of a chat, and where a template puts them.

A template may trim a content, leave it out, or write it in another order. So it is rendered twice: with a marker in
place of every content, which shows what is template and what is not, and as it is.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xtoken_core.chats.template import ChatTemplate, Message

_MARKER = "xq{nonce}p{index}qx"  # letters and digits: no template escapes, trims or splits them; some change case
_THINKING = re.compile(r"\s*<think>\s*(.*?)\s*</think>\s*", re.DOTALL)
_REASONING_KEYS = ("reasoning_content", "thinking")


@dataclass(frozen=True)
class Part:
    """One content: which message it is of, where in the message it stands, and the text.

    `path` leads from the message to the text. `is_learned`: the assistant says it.
    """

    message: int
    path: tuple[str | int, ...]
    text: str
    is_learned: bool


@dataclass(frozen=True)
class Rendered:
    """A chat as one model sees it.

    spans: for each part the characters of `text` that are it, (start, end); empty where the template leaves it out.
    rewritten: how many parts are not in the text as they were given.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    rewritten: int


def with_thinking_apart(messages: Sequence[Message], keep: bool) -> list[dict[str, Any]]:
    """The messages with thoughts in `reasoning_content` only, or with none.

    They come under that name, as `thinking`, or in `<think>` at the beginning of an assistant's content.
    """
    found = [_thinking_apart(dict(message)) for message in messages]
    return found if keep else [{k: v for k, v in message.items() if k != _REASONING_KEYS[0]} for message in found]


def _thinking_apart(message: dict[str, Any]) -> dict[str, Any]:
    thoughts = [message.pop(key) for key in _REASONING_KEYS if message.get(key)]
    within = _THINKING.match(message.get("content") or "") if message["role"] == "assistant" else None
    if within:
        thoughts = thoughts or [within[1]]
        message["content"] = message["content"][within.end() :]
    return message | ({_REASONING_KEYS[0]: thoughts[0]} if thoughts and thoughts[0] else {})


def parts_of(messages: Sequence[Message]) -> list[Part]:
    """The contents of a chat in order: thoughts, text, and the names of called tools, without empty ones."""
    return [
        Part(index, path, text, message["role"] == "assistant")
        for index, message in enumerate(messages)
        for path, text in _texts(message)
        if text
    ]


def _texts(message: Message) -> Iterator[tuple[tuple[str | int, ...], str | None]]:
    yield (_REASONING_KEYS[0],), message.get(_REASONING_KEYS[0])
    yield ("content",), message.get("content")
    for number, call in enumerate(message.get("tool_calls") or ()):
        name = call.get("function", {}).get("name") if isinstance(call.get("function"), Mapping) else None
        yield ("tool_calls", number, "function", "name"), name if isinstance(name, str) else None


def render(template: ChatTemplate, messages: Sequence[Message], parts: Sequence[Part]) -> Rendered:
    """Renders a chat and finds its parts."""
    text = template.render(messages)
    nonce = next(n for n in range(len(text) + 1) if f"xq{n}p" not in text)
    markers = [_MARKER.format(nonce=nonce, index=index) for index in range(len(parts))]
    marked = template.render(_replaced(messages, parts, markers))
    pieces = _pieces(marked, re.compile(_MARKER.format(nonce=nonce, index=r"(\d+)"), re.IGNORECASE), parts)
    spans = _matched(text, pieces, parts) or _searched(text, parts)
    rewritten = sum(text[start:end] != part.text for (start, end), part in zip(spans, parts, strict=True))
    return Rendered(text, tuple(spans), rewritten)


def _replaced(messages: Sequence[Message], parts: Sequence[Part], texts: Sequence[str]) -> list[dict[str, Any]]:
    replaced: Any = copy.deepcopy([dict(message) for message in messages])
    for part, text in zip(parts, texts, strict=True):
        *way, last = part.path
        place = replaced[part.message]
        for step in way:
            place = place[step]
        place[last] = text
    return replaced


def _pieces(marked: str, marker: re.Pattern[str], parts: Sequence[Part]) -> list[tuple[str, int]]:
    """The template's own text before each part, with the part's index; the last text has index -1.

    Parts keep their order: one that a template moves behind a later one, or writes twice, counts as template there.
    """
    pieces: list[tuple[str, int]] = []
    literal, last = "", -1
    for i, found in enumerate(marker.split(marked)):
        if i % 2 == 0:
            literal += found
        elif int(found) > last:
            pieces.append((literal, int(found)))
            literal, last = "", int(found)
        else:
            literal += parts[int(found)].text
    return [*pieces, (literal, -1)]


def _matched(text: str, pieces: Sequence[tuple[str, int]], parts: Sequence[Part]) -> list[tuple[int, int]] | None:
    """The spans, None where the template's own text differs from what it is around markers."""
    spans: dict[int, tuple[int, int]] = {}
    at = 0
    for (literal, index), (following, after) in zip(pieces, [*pieces[1:], ("", -1)], strict=True):
        if not text.startswith(literal, at):
            return None
        at += len(literal)
        if index >= 0:
            end = _end(text, at, parts[index].text, following, is_last=after < 0)
            if end is None:
                return None
            spans[index], at = (at, end), end
    return _with_empty(spans, len(parts)) if at == len(text) else None


def _end(text: str, start: int, content: str, following: str, is_last: bool) -> int | None:
    """Where the content from `start` on ends: before the template's next text."""
    for form in (content, content.rstrip(), content.lstrip(), content.strip()):
        end = start + len(form)
        if text.startswith(form, start) and (text[end:] == following if is_last else text.startswith(following, end)):
            return end
    if is_last:
        end = len(text) - len(following)
        return end if end >= start and text.endswith(following) else None
    found = text.find(following, start) if following else -1
    return found if found >= 0 else None


def _searched(text: str, parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Parts that stand in the text word for word, in order; the others are empty."""
    spans: dict[int, tuple[int, int]] = {}
    at = 0
    for index, part in enumerate(parts):
        found = text.find(part.text.strip(), at)
        if found >= 0:
            at = found + len(part.text.strip())
            spans[index] = (found, at)
    return _with_empty(spans, len(parts))


def _with_empty(spans: Mapping[int, tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """All spans in order; one that is missing is empty, behind the one before it."""
    ordered: list[tuple[int, int]] = []
    for index in range(count):
        at = ordered[-1][1] if ordered else 0
        ordered.append(spans.get(index, (at, at)))
    return ordered
