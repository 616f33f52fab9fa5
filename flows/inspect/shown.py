"""What `xtoken inspect` has to say: what lies there, and what of it is damaged."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text


@dataclass(frozen=True)
class Damage:
    """Files that are not what was written, one sentence each, and what the user can do about them."""

    problems: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        return "; ".join([*self.problems, self.remedy])


@dataclass(frozen=True)
class Shown:
    """Parts to print with rich from top to bottom; `damage` is for the reader's last line, and for the exit code."""

    parts: tuple[RenderableType, ...]
    damage: tuple[Damage, ...] = ()

    def __rich__(self) -> RenderableType:
        return Group(*self.parts, *(Text(f"damaged: {damage}", "bold red") for damage in self.damage))


def found(parts: list[RenderableType], problems: list[str], remedy: str) -> Shown:
    """Parts that were checked: with their damage, or with a line that says that there is none."""
    if problems:
        return Shown(tuple(parts), (Damage(tuple(problems), remedy),))
    return Shown((*parts, Text("whole: every file is as it was written", "green")))
