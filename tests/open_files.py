"""Which files this process has mapped: each takes one of the mappings that Linux allows a process."""

from pathlib import Path


def mapped_in(folder: Path) -> int:
    """How many files below `folder` are mapped now."""
    paths = {line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return sum(path.startswith(f"{folder.resolve()}/") for path in paths)
