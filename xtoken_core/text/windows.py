"""Windows: the slices of a document that become one row each.

No text is lost, and a slice ends where every pre-tokenizer splits anyway (before white space that follows a non-space),
so that encoding slices one by one gives nearly the tokens of the whole document.
"""


def window_ends(document: bytes, max_bytes: int) -> list[int]:
    """Where the windows of a UTF-8 document end; the last end is its length.

    A stretch of `max_bytes` without a good place to cut (base64, scripts without spaces) is cut between characters.

    Raises:
        ValueError: if `max_bytes` is below 4, the longest UTF-8 character.
    """
    if max_bytes < 4:
        raise ValueError(f"max_bytes is {max_bytes}: a window must hold at least one UTF-8 character, 4 bytes")
    ends = []
    start = 0
    while len(document) - start > max_bytes:
        start = _last_break(document, start, start + max_bytes)
        ends.append(start)
    return [*ends, len(document)]


def _last_break(document: bytes, start: int, limit: int) -> int:
    """The last good place to cut in (start, limit]."""
    end = limit + 1
    while end > start + 1:
        end = max(document.rfind(b" ", start + 1, end), document.rfind(b"\n", start + 1, end))
        if end < 0:
            break
        if _is_break(document, end):
            return end
    return _character_start(document, limit)


def _is_break(document: bytes, space: int) -> bool:
    """Whether pre-tokenizers split before the space or newline at `space`.

    White space of any script before it makes one token with it; some keep a newline with the punctuation before it.
    """
    before = document[_character_start(document, space - 1) : space].decode()
    if document[space] == ord("\n"):
        return before.isascii() and before.isalnum()
    return not before.isspace()


def _character_start(document: bytes, position: int) -> int:
    while document[position] & 0xC0 == 0x80:
        position -= 1
    return position
