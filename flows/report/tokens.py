"""Tokens as a person reads them: white space visible, bytes that are no text in hexadecimal."""

_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def shown_text(text: str) -> str:
    """`text` with a sign for every white-space and control character."""
    return "".join(_VISIBLE.get(character) or _shown(character) for character in text)


def shown_bytes(spelled: bytes) -> str:
    """The bytes as text where they are UTF-8, else in hexadecimal: a token can be half a character."""
    try:
        return shown_text(spelled.decode())
    except UnicodeDecodeError:
        return f"‹{spelled.hex(' ')}›"


def _shown(character: str) -> str:
    return character if character.isprintable() else f"‹{ord(character):04x}›"
