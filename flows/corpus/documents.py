"""What a row becomes: a document, a bad row with its reason, or nothing where it is empty."""

from dataclasses import dataclass
from typing import Any

from flows.corpus.bad_rows import Bad, Reason, shortened
from flows.corpus.chats import Message, as_messages


@dataclass(frozen=True, slots=True)
class Document:
    """A text or a chat: exactly one of the two is set, and it is not empty."""

    text: str | None = None
    messages: tuple[Message, ...] | None = None


def text_document(value: Any) -> Document | Bad | None:
    """The document of a value that should be a text: a string, or bytes that are UTF-8."""
    if isinstance(value, str):
        return _of_string(value)
    if isinstance(value, bytes):
        return _of_bytes(value)
    return Bad(Reason.NULL if value is None else Reason.NOT_TEXT, shortened(value))


def chat_document(value: Any) -> Document | Bad | None:
    """The document of a value that should be a list of messages (see `as_messages`)."""
    if value is None:
        return Bad(Reason.NULL, shortened(value))
    messages = as_messages(value)
    if isinstance(messages, Bad):
        return messages
    return Document(messages=messages) if messages else None


def _of_string(text: str) -> Document | Bad | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Bad(Reason.LONE_SURROGATE, shortened(text[max(0, error.start - 20) :]))
    return Document(text=text) if text else None


def _of_bytes(value: bytes) -> Document | Bad | None:
    try:
        return Document(text=value.decode()) if value else None
    except UnicodeDecodeError as error:
        return Bad(Reason.NOT_UTF8, shortened(value[max(0, error.start - 20) :]))
