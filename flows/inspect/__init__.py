"""What lies at a path of a workspace, and whether it is whole: `xtoken inspect PATH`."""

from flows.inspect.dispatch import inspect_path
from flows.inspect.errors import InspectError
from flows.inspect.shown import Shown
from flows.inspect.windows import show_window

__all__ = ["InspectError", "Shown", "inspect_path", "show_window"]
