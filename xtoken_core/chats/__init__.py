"""Chats: each model's own template around the same contents, whose places in the token ids are kept for alignment."""

from xtoken_core.chats.encode import EncodedRows, encode_chats
from xtoken_core.chats.marks import spelled_marks
from xtoken_core.chats.template import ChatError, ChatTemplate, read_chat_template

__all__ = ["ChatError", "ChatTemplate", "EncodedRows", "encode_chats", "read_chat_template", "spelled_marks"]
