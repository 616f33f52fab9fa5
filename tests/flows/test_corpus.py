"""Corpus files of every format, whole and damaged; what fails names the file and what to do."""

import bz2
import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from flows.config import CorpusConfig
from flows.corpus import Source, find_sources, read_documents
from flows.errors import CorpusError

TEXTS = [f"document {i} of a corpus, 中文 – ünï\n" * (1 + i % 3) for i in range(2500)]


def as_jsonl(rows: list[object]) -> bytes:
    return "".join(json.dumps({"text": row, "other": 1}) + "\n" for row in rows).encode()


def as_parquet(rows: list[object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"other": [1] * len(rows), "text": rows}), sink, row_group_size=700)
    return sink.getvalue().to_pybytes()


def as_arrow(rows: list[object]) -> bytes:
    table = pa.table({"other": [1] * len(rows), "text": rows})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return sink.getvalue().to_pybytes()


def as_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as writer:
        writer.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": as_zstd}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes bytes under a name and returns the documents in them."""

    def read(name: str, data: bytes, column: str = "text") -> list[str]:
        path = tmp_path / name
        path.write_bytes(data)
        (source,) = find_sources(CorpusConfig(files=(str(path),), text_column=column))
        return list(read_documents(source, column))

    return read


Read = Callable[..., list[str]]


class TestWhole:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("a.jsonl", as_jsonl),
            ("a.ndjson", as_jsonl),
            ("A.JSONL", as_jsonl),
            ("a.parquet", as_parquet),
            ("a.arrow", as_arrow),
            ("a.feather", as_arrow),
        ],
    )
    def test_documents_come_as_they_were_written(
        self, read: Read, name: str, write: Callable[[list[str]], bytes]
    ) -> None:
        assert read(name, write(TEXTS)) == TEXTS

    @pytest.mark.parametrize("ending", COMPRESS)
    def test_text_formats_may_be_compressed(self, read: Read, ending: str) -> None:
        assert read(f"a.jsonl{ending}", COMPRESS[ending](as_jsonl(TEXTS))) == TEXTS
        assert read(f"a.txt{ending}", COMPRESS[ending]("é\n".encode())) == ["é\n"]

    @pytest.mark.parametrize("ending", [".txt", ".md"])
    def test_a_text_file_is_one_document(self, read: Read, ending: str) -> None:
        assert read(f"a{ending}", "one\r\n\n中".encode()) == ["one\r\n\n中"]
        assert read(f"b{ending}", b"") == []

    def test_another_column(self, read: Read) -> None:
        assert read("a.jsonl", b'{"text": 1, "body": "x"}\n', "body") == ["x"]

    def test_lines_of_json_need_not_be_tidy(self, read: Read) -> None:
        assert read("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\n  \n {"text": "b"}') == ["a", "b"]


class TestRowsWithoutText:
    BAD = (None, 5, "", "\ud800", ["a"], "good")

    def test_they_are_counted_and_the_rest_is_read(self, read: Read, caplog: pytest.LogCaptureFixture) -> None:
        assert read("a.jsonl", as_jsonl(list(self.BAD))) == ["good"]
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            "a.jsonl: skipped 4 row(s) without usable text: row 0 is NoneType, not a string; "
            "row 1 is int, not a string; row 3 has a lone surrogate"
        )

    @pytest.mark.parametrize(("name", "write"), [("a.parquet", as_parquet), ("a.arrow", as_arrow)])
    def test_nulls_in_tables(
        self, read: Read, name: str, write: Callable[[list], bytes], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert read(name, write(["a", None, "", "b"])) == ["a", "b"]
        assert f"{name}: skipped 1 row(s) without usable text: row 1 is NoneType" in caplog.text

    def test_a_column_of_bytes_is_no_text(self, read: Read, caplog: pytest.LogCaptureFixture) -> None:
        assert read("a.parquet", as_parquet([b"a", b"b"])) == []
        assert "skipped 2 row(s)" in caplog.text


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbled(data: bytes) -> bytes:
    """A few bytes in the first third are overwritten."""
    middle = len(data) // 3
    return data[:middle] + b"\xff" * 20 + data[middle + 20 :]


class TestDamaged:
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("half.parquet", half(as_parquet(TEXTS))),
            ("end.parquet", as_parquet(TEXTS)[:-9]),
            ("no.parquet", b"text"),
            ("empty.parquet", b""),
            ("half.arrow", half(as_arrow(TEXTS))),
            ("no.arrow", b"text"),
            *((f"half.jsonl{ending}", half(compress(as_jsonl(TEXTS)))) for ending, compress in COMPRESS.items()),
            *((f"no.txt{ending}", b"plain text, not compressed") for ending in COMPRESS),
            ("garbled.txt.gz", garbled(gzip.compress(as_jsonl(TEXTS)))),
            ("garbled.txt.xz", garbled(lzma.compress(as_jsonl(TEXTS)))),
            ("latin.txt", "é".encode("latin-1")),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_file_that_is_not_what_its_name_says(self, read: Read, tmp_path: Path, name: str, data: bytes) -> None:
        with pytest.raises(CorpusError) as caught:
            read(name, data)
        text = str(caught.value)
        assert str(tmp_path / name) in text
        assert text.endswith("out of corpus.files")

    @pytest.mark.parametrize("line", [b"{", b"text", b'{"text": "\xff"}', b'{"text": ' + b"[" * 100_000])
    def test_a_line_that_is_not_json_is_named(self, read: Read, tmp_path: Path, line: bytes) -> None:
        with pytest.raises(CorpusError) as caught:
            read("a.jsonl", b'{"text": "a"}\n\n' + line + b"\n")
        text = str(caught.value)
        assert text.startswith(f"{tmp_path}/a.jsonl: line 3 is not JSON (")
        assert text.endswith("; repair the line or leave the file out of corpus.files")

    @pytest.mark.parametrize(
        ("name", "data", "found"),
        [
            ("a.jsonl", as_jsonl(["a"]), "['other', 'text']"),
            ("a.parquet", as_parquet(["a"]), "['other', 'text']"),
            ("a.arrow", as_arrow(["a"]), "['other', 'text']"),
            ("list.jsonl", b'["body"]', "[]"),
        ],
        ids=["jsonl", "parquet", "arrow", "no-object"],
    )
    def test_a_missing_column(self, read: Read, tmp_path: Path, name: str, data: bytes, found: str) -> None:
        with pytest.raises(CorpusError) as caught:
            read(name, data, "body")
        assert str(caught.value) == f"{tmp_path / name} has no column 'body', only {found}: set corpus.text_column"


class TestFinding:
    def found(self, *patterns: object) -> list[str]:
        return [source.name for source in find_sources(CorpusConfig(files=tuple(map(str, patterns))))]

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.txt", "a.txt", "c.md", "deep/d.txt"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        (tmp_path / "folder.txt").mkdir()
        return tmp_path

    def test_patterns_keep_their_order_and_files_come_sorted(self, folder: Path) -> None:
        assert self.found(folder / "*.md", folder / "*.txt") == ["c.md", "a.txt", "b.txt"]
        assert self.found(folder / "**" / "*.txt") == ["a.txt", "b.txt", "d.txt"]

    def test_a_file_that_two_patterns_name_is_read_once(self, folder: Path) -> None:
        assert self.found(folder / "b.txt", folder / "*.txt") == ["b.txt", "a.txt"]

    def test_a_name_may_look_like_a_pattern(self, folder: Path) -> None:
        (folder / "[1]*.txt").write_text("x")
        assert self.found(folder / "[1]*.txt") == ["[1]*.txt"]

    def test_relative_to_the_working_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert self.found("*.md") == ["c.md"]

    @pytest.mark.parametrize("pattern", ["no.txt", "*.parquet", "folder.txt", "no/*.txt"])
    def test_a_pattern_without_match(self, folder: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        with pytest.raises(CorpusError) as caught:
            self.found("a.txt", pattern)
        assert str(caught.value) == (
            f"corpus.files: {pattern} matches no file; check the path (it is relative to {folder})"
        )

    @pytest.mark.parametrize("name", ["table.csv", "noending", "a.jsonl.zip", "jsonl"])
    def test_an_unknown_ending(self, folder: Path, name: str) -> None:
        (folder / name).write_text("x")
        with pytest.raises(CorpusError, match=r"unknown format; corpus files end in \.jsonl, .*parquet") as caught:
            self.found(folder / name)
        assert str(caught.value).startswith(str(folder / name))

    def test_the_digest_is_of_the_bytes(self, folder: Path) -> None:
        def digest() -> str:
            (source,) = find_sources(CorpusConfig(files=(str(folder / "a.txt"),)))
            return source.digest

        before = digest()
        (folder / "a.txt").write_text("other")
        assert digest() != before
        (folder / "a.txt").write_text("a.txt")
        assert digest() == before

    def test_urls_are_read_too(self) -> None:
        put("memory://corpus/a.jsonl.gz", gzip.compress(as_jsonl(TEXTS[:5])))
        (source,) = sources("memory://corpus/*.jsonl.gz")
        assert source.url == "memory:///corpus/a.jsonl.gz"
        assert list(read_documents(source, "text")) == TEXTS[:5]

    @pytest.mark.parametrize("url", ["nothing://x/*.jsonl", "zip://*.jsonl::{}/no.zip", "zip://*.jsonl::{}/a.txt"])
    def test_a_url_that_leads_nowhere(self, folder: Path, url: str) -> None:
        pattern = url.format(folder)
        with pytest.raises(CorpusError) as caught:
            self.found(pattern)
        text = str(caught.value)
        assert text.startswith(f"corpus.files: cannot open {pattern}: ")
        assert text.endswith("check the path, and for a URL its protocol and that the server or container can be read")


def sources(*patterns: str) -> list[Source]:
    return find_sources(CorpusConfig(files=patterns))


def digest(pattern: str) -> str:
    (source,) = sources(pattern)
    return source.digest


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


@dataclass
class Server:
    """A web server of the files in `folder` that sends the headers in `stamps`."""

    folder: Path
    url: str = ""
    stamps: tuple[str, ...] = ()


class Handler(SimpleHTTPRequestHandler):
    """Sends a hash of the content, the time and the size as far as the test's `Server` says so."""

    def __init__(self, *args: Any, server: Server) -> None:
        self.facts = server
        super().__init__(*args, directory=str(server.folder))

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in {"Last-Modified", "Content-Length"} or keyword in self.facts.stamps:
            super().send_header(keyword, value)

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if "ETag" in self.facts.stamps and path.is_file():
            super().send_header("ETag", hashlib.md5(path.read_bytes()).hexdigest())
        super().end_headers()

    def log_message(self, *_args: Any) -> None:
        """Not to the tests' output."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    facts = Server(tmp_path / "served")
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, server=facts))
    facts.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield facts
    http.shutdown()
    thread.join()
    http.server_close()


class Stamped(MemoryFileSystem):
    """Says a file's version under the name `stamp`, from a listing that it remembers as the object stores' ones do."""

    protocol = "stamped"
    stamp = "ETag"
    reads = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("stamped://"))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        if path not in self.dircache:
            found = super().info(path, **kwargs)
            file = self.store.get(found["name"])
            self.dircache[path] = found | {self.stamp: file and hashlib.md5(file.getvalue()).hexdigest()}
        return self.dircache[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        Stamped.reads += mode == "rb"
        return super()._open(path, mode, **kwargs)


ONE, TWO = (as_jsonl([text]) for text in ("the one text", "the two text"))
STAMPS = ["md5Hash", "blob_id", "ETag", "etag", "LastModified", "last_modified", "mtime"]


class TestRemoteDigests:
    @pytest.mark.parametrize(
        "stamps",
        [("Last-Modified", "Content-Length"), ("ETag", "Content-Length"), ("Content-Length",), ()],
        ids=["time", "etag", "size-only", "nothing"],
    )
    def test_a_changed_file_of_a_web_server_is_noticed(self, server: Server, stamps: tuple[str, ...]) -> None:
        server.stamps = stamps
        path = server.folder / "a.jsonl"
        found = []
        for time, data in enumerate((ONE, ONE, TWO)):
            path.write_bytes(data)
            os.utime(path, (time // 2, 1e9 + time // 2))
            found.append(digest(f"{server.url}/a.jsonl"))
        assert found[0] == found[1] != found[2]

    def test_a_web_servers_changed_file_is_read_as_it_is_now(self, server: Server) -> None:
        server.stamps = ("ETag", "Content-Length")
        for data, text in ((ONE, "the one text"), (TWO, "the two text")):
            (server.folder / "a.jsonl").write_bytes(data)
            (source,) = sources(f"{server.url}/*.jsonl")
            assert source.url == f"{server.url}/a.jsonl"
            assert list(read_documents(source, "text")) == [text]

    def test_where_nothing_is_known_of_a_file_its_bytes_count(self) -> None:
        found = []
        for data in (ONE, ONE, TWO):
            put("memory://digests/a.jsonl", data)
            found.append(digest("memory://digests/*.jsonl"))
        assert found[0] == found[1] != found[2]

    @pytest.mark.parametrize("stamp", STAMPS)
    def test_what_a_file_system_knows_is_believed(self, stamp: str, monkeypatch: pytest.MonkeyPatch) -> None:
        fsspec.register_implementation("stamped", Stamped, clobber=True)
        monkeypatch.setattr(Stamped, "stamp", stamp)
        monkeypatch.setattr(Stamped, "reads", 0)
        found = []
        for data in (ONE, ONE, TWO):
            put("stamped://digests/a.jsonl", data)
            found.append(digest("stamped://digests/*.jsonl"))
        assert found[0] == found[1] != found[2]
        assert Stamped.reads == 0


def as_zip(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


def as_tar(files: dict[str, bytes]) -> bytes:
    """All files have the same time, as in archives that are built reproducibly."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_000_000_000
            archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


class TestContainers:
    """Chained URLs: each file keeps the container that it lies in."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        files = {"a.jsonl": ONE, "deep/b.jsonl.gz": gzip.compress(TWO), "deep/c.txt": b"text"}
        (tmp_path / "x.zip").write_bytes(as_zip(files))
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(as_tar(files)))
        (tmp_path / "y.zip").write_bytes(as_zip({"a.jsonl": TWO}))
        return tmp_path

    @pytest.mark.parametrize(
        ("pattern", "urls"),
        [
            ("zip://*.jsonl::file://{}/x.zip", ["zip://a.jsonl::file://{}/x.zip"]),
            ("zip://a.jsonl::{}/x.zip", ["zip://a.jsonl::{}/x.zip"]),
            (
                "zip://**/*.jsonl*::{}/x.zip",
                ["zip://a.jsonl::{}/x.zip", "zip://deep/b.jsonl.gz::{}/x.zip"],
            ),
            ("tar://deep/*.gz::{}/x.tar.gz", ["tar://deep/b.jsonl.gz::{}/x.tar.gz"]),
            ("zip://*.jsonl::simplecache::{}/x.zip", ["zip://a.jsonl::simplecache::{}/x.zip"]),
            ("simplecache::zip://*.jsonl::{}/x.zip", ["simplecache::zip://a.jsonl::{}/x.zip"]),
        ],
    )
    def test_files_of_an_archive(self, folder: Path, pattern: str, urls: list[str]) -> None:
        found = sources(pattern.format(folder))
        assert [source.url for source in found] == [url.format(folder) for url in urls]
        texts = {"a.jsonl": ["the one text"], "b.jsonl.gz": ["the two text"]}
        assert all(list(read_documents(source, "text")) == texts[source.name] for source in found)

    def test_two_archives_may_hold_files_of_one_name(self, folder: Path) -> None:
        found = sources(f"zip://a.jsonl::{folder}/x.zip", f"zip://a.jsonl::{folder}/y.zip")
        assert [list(read_documents(source, "text")) for source in found] == [["the one text"], ["the two text"]]

    def test_a_cache_in_front_of_a_web_server(self, server: Server) -> None:
        (server.folder / "a.jsonl").write_bytes(ONE)
        (source,) = sources(f"simplecache::{server.url}/*.jsonl")
        assert source.url == f"simplecache::{server.url}/a.jsonl"
        assert list(read_documents(source, "text")) == ["the one text"]

    @pytest.mark.parametrize(("protocol", "pack"), [("zip", as_zip), ("tar", as_tar)])
    def test_a_changed_file_in_an_archive_is_noticed(
        self, tmp_path: Path, protocol: str, pack: Callable[[dict[str, bytes]], bytes]
    ) -> None:
        found = []
        for data in (ONE, ONE, TWO):
            (tmp_path / "packed").write_bytes(pack({"a.jsonl": data, f"{len(found)}.txt": b"other"}))
            found.append(digest(f"{protocol}://*.jsonl::{tmp_path}/packed"))
        assert found[0] == found[1] != found[2]

    def test_a_damaged_file_in_an_archive(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(as_zip({"a.jsonl": ONE}).replace(b"the one text", b"the odd text"))
        (source,) = sources(f"zip://*.jsonl::{tmp_path}/x.zip")
        with pytest.raises(CorpusError) as caught:
            list(read_documents(source, "text"))
        text = str(caught.value)
        assert text.startswith(f"cannot read zip://a.jsonl::{tmp_path}/x.zip: Bad CRC-32")
        assert text.endswith("out of corpus.files")
