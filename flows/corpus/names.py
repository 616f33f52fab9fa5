"""What files are called in messages and reports: the same wherever the corpus lies, and no two of a source alike."""

from collections.abc import Collection
from itertools import takewhile

from flows.corpus.locations import path_of


def names_of(urls: Collection[str]) -> dict[str, str]:
    """URL -> name: the path below the folder that all of these files lie in; a lone file has no folder in its name."""
    parts = {url: path_of(url).split("/") for url in urls}
    folders = [path[:-1] for path in parts.values()]
    in_common = takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False))
    depth = len(list(in_common))  # what the first and the last in order begin with, all others begin with
    return {url: "/".join(path[depth:]) for url, path in parts.items()}
