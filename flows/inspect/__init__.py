"""What lies at a path of a workspace, and whether it is whole: `xtoken inspect PATH`."""

from flows.inspect.dispatch import InspectError, inspect_path

__all__ = ["InspectError", "inspect_path"]
