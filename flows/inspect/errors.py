"""The error of `xtoken inspect`."""


class InspectError(ValueError):
    """A path that does not hold what was asked for; the message says what was expected and what was found."""
