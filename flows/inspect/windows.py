"""One window of an artifact: `xtoken inspect PATH --window N`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from flows.inspect.artifacts import shard_damage
from flows.inspect.drawing import EVEN, INEXACT, ODD, OUTSIDE, SPECIAL, TEMPLATE, Column, Drawing
from flows.inspect.errors import InspectError
from flows.inspect.shown import Damage, Shown
from flows.inspect.values import facts
from flows.report.chunks import Chunk, chunks_of, shown_token
from flows.report.tokens import shown_text
from storage.artifact import read_manifest, read_table
from storage.schemas import ALIGNMENTS, TOKENS, WINDOWS
from storage.vocabularies import load_vocabulary
from xtoken_core.align import ChunkKind
from xtoken_core.vocabulary import TokenKind, Vocabulary

_ID = re.compile(r"(?:0x)?([0-9a-f]{16})", re.IGNORECASE)
_KINDS = {"alignments": ALIGNMENTS, "tokens": TOKENS, "windows": WINDOWS}
_LEGEND = "≠ bytes differ, or no counterpart   ◆ special   ▫ template   – in no chunk   │ between tokens of a chunk"


def show_window(path: Path, wanted: str) -> Shown:
    """The window `wanted`, a row number or a window id, of an artifact, a shard or all alignments of a workspace.

    A window of a damaged shard is not drawn: its ids may be no tokens at all.

    Raises:
        InspectError: if nothing there has windows, or not this one, or no model that reads it.
    """
    if not path.exists():
        raise InspectError(f"{path} does not exist: give a folder or a shard of alignments, tokens or windows")
    holders = list(_holders(path))
    if not holders:
        raise InspectError(f"{path} has no windows: give a folder or a shard of alignments, tokens or windows")
    found = [(holder, place) for holder in holders if (place := holder.find(wanted)) is not None]
    if not found:
        _require_whole(holders)
        counts = ", ".join(f"{holder.folder} has {holder.rows:,}, numbered from 0" for holder in holders[:3])
        raise InspectError(f"there is no window {wanted}: {counts}; give one of these or a window's id")
    return _drawn(found)


@dataclass(frozen=True)
class _Place:
    """A row of a shard; it is read when it is asked for, since in a damaged shard it may be anything."""

    shard: Path
    number: int

    @cached_property
    def row(self) -> dict[str, Any]:
        return read_table(self.shard).slice(self.number, 1).to_pylist()[0]

    @property
    def name(self) -> str:
        return f"window {self.row['window_id']:016x}, row {self.number:,} of {self.shard}"


@dataclass(frozen=True)
class _Holder:
    """Shards with windows; `kind` says of what they are."""

    folder: Path
    kind: str
    shards: tuple[Path, ...]

    @property
    def rows(self) -> int:
        return sum(read_table(shard).num_rows for shard in self.shards)

    def find(self, wanted: str) -> _Place | None:
        """The window of that number, else of that id; None where there is none."""
        window_id = _ID.fullmatch(wanted)
        if window_id:
            return self._with_id(int(window_id[1], 16))
        if not wanted.isdecimal():
            raise InspectError(f"{wanted} is no window: give a row number, from 0, or an id of 16 hexadecimal digits")
        return self._with_number(int(wanted)) or self._with_id(int(wanted))

    def _with_number(self, number: int) -> _Place | None:
        for shard in self.shards:
            table = read_table(shard)
            if number < table.num_rows:
                return _Place(shard, number)
            number -= table.num_rows
        return None

    def _with_id(self, window_id: int) -> _Place | None:
        for shard in self.shards if window_id < 2**64 else ():
            table = read_table(shard)
            rows = np.flatnonzero(table["window_id"].to_numpy() == np.uint64(window_id))
            if len(rows):
                return _Place(shard, int(rows[0]))
        return None

    def vocabulary(self, key: str) -> Vocabulary:
        """The vocabulary that the manifest names under `key`, from the workspace that the shards are in."""
        fingerprint = read_manifest(self.folder).inputs.get(key)
        for parent in self.folder.absolute().parents:
            for manifest in sorted((parent / "vocabularies").glob("*/manifest.json")):
                if read_manifest(manifest.parent).inputs.get("vocabulary") == fingerprint:
                    return load_vocabulary(manifest.parent)
        raise InspectError(
            f"{self.folder}: what its tokens spell is not in any folder `vocabularies` above it: run `xtoken prepare "
            "CONFIG` again in its workspace"
        )


def _holders(path: Path) -> Iterator[_Holder]:
    """The shard or artifact at `path`; below it else the alignments, without those the tokens, else the windows."""
    shards = (path,) if path.suffix == ".arrow" else tuple(sorted(path.glob("shard-*.arrow")))
    if shards:
        kind = _kind(shards[0])
        return iter([_Holder(shards[0].parent, kind, shards)] if kind else [])
    below = [_Holder(folder, kind, shards) for folder, kind, shards in _artifacts(path)]
    return iter(next((found for kind in _KINDS if (found := [one for one in below if one.kind == kind])), []))


def _artifacts(folder: Path) -> Iterator[tuple[Path, str, tuple[Path, ...]]]:
    for manifest in sorted(folder.glob("**/manifest.json")):
        shards = tuple(sorted(manifest.parent.glob("shard-*.arrow")))
        kind = _kind(shards[0]) if shards else None
        if kind:
            yield manifest.parent, kind, shards


def _kind(shard: Path) -> str | None:
    """What the shard's columns are of."""
    names = read_table(shard).schema.names
    return next((kind for kind, schema in _KINDS.items() if schema.names == names), None)


def _require_whole(holders: Iterable[_Holder]) -> None:
    """InspectError if a shard is damaged: what is looked for may be what it lost."""
    for shard in (shard for holder in holders for shard in holder.shards):
        if damage := shard_damage(shard):
            raise InspectError(str(damage))


def _drawn(found: Iterable[tuple[_Holder, _Place]]) -> Shown:
    """Every drawing, one after another; what cannot be drawn is an error where nothing else can."""
    drawings: list[RenderableType] = []
    errors: list[InspectError] = []
    damaged: list[Damage] = []
    for holder, place in found:
        if damage := shard_damage(place.shard):
            damaged.append(damage)
            continue
        try:
            drawings.append(_DRAW[holder.kind](holder, place))
        except InspectError as error:
            errors.append(error)
    if not drawings and errors:
        raise errors[0]
    return Shown((*drawings, *(Text(str(error), "yellow") for error in errors)), tuple(damaged))


def _aligned(holder: _Holder, place: _Place) -> RenderableType:
    row = place.row
    missing = [side for side in ("student", "teacher") if not row[f"{side}_ids"]]
    if missing:
        raise InspectError(_unread(place, " and the ".join(missing)))
    vocabularies = holder.vocabulary("student"), holder.vocabulary("teacher")
    outside = tuple(row[f"{side}_ids"][: row[f"{side}_chunk_start0"]] for side in ("student", "teacher"))
    leading = [Column(_lines(outside, vocabularies), OUTSIDE, "–")] if any(outside) else []
    chunks = list(chunks_of(row, *vocabularies))
    columns = [*leading, *(_column(chunk, index, vocabularies) for index, chunk in enumerate(chunks))]
    counts = {
        "tokens": f"{len(row['student_ids']):,} of the student, {len(row['teacher_ids']):,} of the teacher",
        "chunks": f"{row['n_chunks']:,}, {row['n_exact']:,} of them exact",
        "bytes": f"{row['n_bytes']:,}, {row['n_exact_bytes']:,} of them in exact chunks",
    }
    return Group(facts(place.name, counts), Drawing(("student", "teacher"), columns), Text(_LEGEND, "dim"), "")


def _encoded(holder: _Holder, place: _Place) -> RenderableType:
    ids = place.row["ids"]
    if not ids:
        raise InspectError(_unread(place, "model"))
    vocabulary = holder.vocabulary("vocabulary")
    counts = {"tokens": f"{len(ids):,}, {sum(place.row['loss_mask']):,} of them count in losses"}
    columns = [_token_column(token_id, index, vocabulary) for index, token_id in enumerate(ids)]
    return Group(facts(place.name, counts), Drawing(("",), columns), "")


def _text(_: _Holder, place: _Place) -> RenderableType:
    row = place.row
    names = ("source", "split", "byte_start", "byte_end")
    lines = (row["text"] if row["text"] is not None else row["messages"]).splitlines(keepends=True)
    return Group(facts(place.name, {name: row[name] for name in names}), *(Text(shown_text(line)) for line in lines))


_DRAW = {"alignments": _aligned, "tokens": _encoded, "windows": _text}


def _unread(place: _Place, who: str) -> str:
    return (
        f"{place.name} has no tokens of the {who}: its source is not for that model, or the model's chat template "
        "refused it; give another window"
    )


def _column(chunk: Chunk, index: int, vocabularies: tuple[Vocabulary, Vocabulary]) -> Column:
    style = {ChunkKind.SPECIAL: SPECIAL, ChunkKind.TEMPLATE: TEMPLATE}.get(
        ChunkKind(chunk.kind), (EVEN, ODD)[index % 2]
    )
    kind = {ChunkKind.SPECIAL: "◆", ChunkKind.TEMPLATE: "▫"}.get(ChunkKind(chunk.kind), "")
    lines = _lines((chunk.student, chunk.teacher), vocabularies)
    return Column(
        lines, style if chunk.exact else INEXACT, ("" if chunk.exact else "≠") + kind, chunk.text.endswith(b"\n")
    )


def _token_column(token_id: int, index: int, vocabulary: Vocabulary) -> Column:
    special = vocabulary.kind[token_id] == TokenKind.SPECIAL
    ends_line = vocabulary.token_bytes(token_id).endswith(b"\n")
    style = SPECIAL if special else (EVEN, ODD)[index % 2]
    return Column((_spelled(token_id, vocabulary),), style, "◆" if special else "", ends_line)


def _lines(sides: tuple[Iterable[int], ...], vocabularies: tuple[Vocabulary, ...]) -> tuple[str, ...]:
    return tuple(
        "│".join(_spelled(token_id, vocabulary) for token_id in ids)
        for ids, vocabulary in zip(sides, vocabularies, strict=True)
    )


def _spelled(token_id: int, vocabulary: Vocabulary) -> str:
    """As it is shown; a combining mark gets something to stand on, and nothing at all a sign for it."""
    text = shown_token(token_id, vocabulary).text or "∅"
    return f"◌{text}" if category(text[0]).startswith("M") else text
