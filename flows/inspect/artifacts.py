"""Artifact folders and their shards."""

from collections import Counter
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from flows.inspect.shown import Damage, Shown, found
from flows.inspect.values import facts, first_rows, size
from storage.artifact import damage, read_manifest, read_table
from storage.errors import ArtifactError
from storage.manifest import MANIFEST_NAME, FileEntry, Manifest

_OWNERS = {
    "windows": "prepare",
    "screenings": "prepare",
    "tokens": "prepare",
    "alignments": "prepare",
    "report": "prepare",
    "cache": "cache-teacher",
    "projection": "build-projection",
    "audit": "build-projection",
    "overlap": "build-projection",
    "vocabulary": "prepare",
}


def is_artifact(folder: Path) -> bool:
    """Whether a finished artifact is, or was, in the folder."""
    return (folder / MANIFEST_NAME).is_file()


def is_unfinished(folder: Path) -> bool:
    """Whether shards without a manifest are in the folder."""
    return any(folder.glob("shard-*.arrow"))


def show_artifact(folder: Path) -> Shown:
    """Everything that the manifest says, checked against the files, and the first rows."""
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        return found([], [str(error)], remedy(None))
    problems = damages(folder, manifest)
    parts: list[RenderableType] = [facts(f"{manifest.kind} in {folder}", _facts(manifest))]
    if manifest.inputs:
        parts += [facts("inputs", manifest.inputs)]
    stats = manifest.stats or _sums(manifest)
    if stats:
        parts += [facts("stats", stats)]
    tables = [entry.name for entry in manifest.files if entry.name.endswith(".arrow")]
    return found([*parts, *_table(folder, tables[0] if tables else None)], problems, remedy(manifest.kind))


def show_unfinished(folder: Path) -> Shown:
    """How far a stage came that was interrupted."""
    shards = sorted(folder.glob("shard-*.arrow"))
    finished = [shard for shard in shards if shard.with_name(f"{shard.name}.json").is_file()]
    counts = {"shards finished so far": len(finished), "size": size(sum(shard.stat().st_size for shard in shards))}
    note = Text("unfinished: no manifest.json yet; the command that makes it goes on from here", "yellow")
    return Shown((facts(f"unfinished artifact in {folder}", counts), *_table(folder, shards[0].name), note))


def show_shard(path: Path) -> Shown:
    """One shard: what its receipt says, and its first rows."""
    entry = _receipt(path)
    try:
        table = read_table(path)
    except ArtifactError as error:
        return found([], [str(error)], remedy(_kind(path)))
    counts: dict[str, object] = {"rows": table.num_rows, "size": size(path.stat().st_size), "kind": _kind(path) or "?"}
    counts |= dict(entry.stats) if entry else {}
    parts: list[RenderableType] = [facts(f"shard {path}", counts), first_rows(table)]
    if entry is None:
        return Shown((*parts, Text("no receipt lies beside it: nothing to check it against", "yellow")))
    problem = damage(path.parent, entry, fresh=True)
    return found(parts, [problem] if problem else [], remedy(_kind(path)))


def shard_damage(path: Path) -> Damage | None:
    """What is wrong with a shard; None where it is whole, or nothing says how it was written."""
    entry = _receipt(path)
    problem = damage(path.parent, entry, fresh=True) if entry else None
    return Damage((problem,), remedy(_kind(path))) if problem else None


def damages(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files of an artifact; empty if it is whole."""
    problems = (damage(folder, entry, fresh=True) for entry in manifest.files)
    return [problem for problem in problems if problem]


def remedy(kind: str | None) -> str:
    """What the user can do about a damaged artifact."""
    return f"run `xtoken {_OWNERS.get(kind or '', 'distill')} CONFIG` again: it rebuilds what is damaged, nothing else"


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "rows": sum(entry.rows for entry in manifest.files),
        "size": size(sum(entry.bytes for entry in manifest.files)),
        "files": f"{len(manifest.files)}, {len(manifest.shards)} of them shards",
        "fingerprint": f"{manifest.fingerprint} (algorithm version {manifest.algorithm_version})",
        "created": manifest.created,
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.environment.items()),
    }


def _sums(manifest: Manifest) -> dict[str, float]:
    """The counts of all files together; a stage that keeps others than counts writes stats of its own."""
    sums: Counter[str] = Counter()
    for entry in manifest.files:
        sums.update(entry.stats)  # type: ignore[arg-type]  # counts are whole numbers kept as floats
    return dict(sums)


def _table(folder: Path, name: str | None) -> list[RenderableType]:
    if name is None:
        return []
    try:
        return [first_rows(read_table(folder / name))]
    except ArtifactError:  # the verdict below says so
        return []


def _receipt(path: Path) -> FileEntry | None:
    try:
        return FileEntry.model_validate_json(path.with_name(f"{path.name}.json").read_bytes())
    except (OSError, ValueError):
        return None


def _kind(path: Path) -> str | None:
    try:
        return read_manifest(path.parent).kind
    except ArtifactError:
        return None
