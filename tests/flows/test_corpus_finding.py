"""Finding corpus files: paths, folders, globs, URLs and archives, and what tells that a file has changed."""

import gzip
import hashlib
import io
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
import pytest
from corpus_files import TEXTS, as_jsonl, sources, texts
from fsspec.implementations.memory import MemoryFileSystem

from flows.errors import CorpusError


class TestFinding:
    def found(self, *patterns: object) -> list[str]:
        return [file.name for file in sources(*patterns)]

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
        assert self.found(folder / "**" / "*.txt") == ["a.txt", "b.txt", "deep/d.txt"]

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
        path = folder / "a.txt"
        before = digest(path)
        path.write_text("other")
        assert digest(path) != before
        path.write_text("a.txt")
        assert digest(path) == before

    def test_urls_are_read_too(self) -> None:
        put("memory://corpus/a.jsonl.gz", gzip.compress(as_jsonl(TEXTS[:5])))
        (source,) = sources("memory://corpus/*.jsonl.gz")
        assert source.url == "memory:///corpus/a.jsonl.gz"
        assert texts(source) == TEXTS[:5]

    def test_a_folder_is_all_its_files_of_known_formats(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("table.csv", ".hidden.txt", ".git/log.txt", "deep/.cache/x.txt", "deep/e.JSONL.gz"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        assert self.found(folder) == ["a.txt", "b.txt", "c.md", "deep/d.txt", "deep/e.JSONL.gz"]
        assert self.found(folder) == ["a.txt", "b.txt", "c.md", "deep/d.txt", "deep/e.JSONL.gz"]
        assert caplog.messages == [f"{folder}: left out 1 file(s) of unknown formats: table.csv"]  # once
        assert self.found(f"{folder}/", folder / "a.txt") == self.found(folder)
        assert self.found(folder / "deep" / "..") == self.found(folder)

    def test_few_of_many_unknown_files_are_named(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        for number in range(5):
            (folder / f"{number}.csv").write_text("")
        self.found(folder)
        assert caplog.messages == [f"{folder}: left out 5 file(s) of unknown formats: 0.csv, 1.csv, 2.csv and 2 more"]

    def test_a_folder_below_a_hidden_one_is_read_if_it_is_named(self, folder: Path) -> None:
        (folder / ".data").mkdir()
        (folder / ".data" / "a.txt").write_text("x")
        assert self.found(folder / ".data") == ["a.txt"]

    def test_a_folder_of_a_url(self) -> None:
        put("memory://tree/deep/b.txt", b"b")
        put("memory://tree/a.txt", b"a")
        put("memory://tree/a.csv", b"c")
        found = sources("memory://tree")
        assert [file.url for file in found] == ["memory:///tree/a.txt", "memory:///tree/deep/b.txt"]
        assert [texts(file) for file in found] == [["a"], ["b"]]

    @pytest.mark.parametrize("url", ["nothing://x/*.jsonl", "zip://*.jsonl::{}/no.zip", "zip://*.jsonl::{}/a.txt"])
    def test_a_url_that_leads_nowhere(self, folder: Path, url: str) -> None:
        pattern = url.format(folder)
        with pytest.raises(CorpusError) as caught:
            self.found(pattern)
        text = str(caught.value)
        assert text.startswith(f"corpus.files: cannot open {pattern}: ")
        assert text.endswith("check the path, and for a URL its protocol and that the server or container can be read")


def digest(pattern: object) -> str:
    (file,) = sources(pattern)
    return file.digest


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
            assert texts(source) == [text]

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
            (
                "zip://::{}/x.zip",
                ["zip://a.jsonl::{}/x.zip", "zip://deep/b.jsonl.gz::{}/x.zip", "zip://deep/c.txt::{}/x.zip"],
            ),
            ("zip://deep::{}/x.zip", ["zip://deep/b.jsonl.gz::{}/x.zip", "zip://deep/c.txt::{}/x.zip"]),
            ("tar://deep/*.gz::{}/x.tar.gz", ["tar://deep/b.jsonl.gz::{}/x.tar.gz"]),
            ("zip://*.jsonl::simplecache::{}/x.zip", ["zip://a.jsonl::simplecache::{}/x.zip"]),
            ("simplecache::zip://*.jsonl::{}/x.zip", ["simplecache::zip://a.jsonl::{}/x.zip"]),
        ],
    )
    def test_files_of_an_archive(self, folder: Path, pattern: str, urls: list[str]) -> None:
        found = sources(pattern.format(folder))
        assert [source.url for source in found] == [url.format(folder) for url in urls]
        expected = {"a.jsonl": ["the one text"], "b.jsonl.gz": ["the two text"], "c.txt": ["text"]}
        assert all(texts(source) == expected[source.name.removeprefix("deep/")] for source in found)

    def test_two_archives_may_hold_files_of_one_name(self, folder: Path) -> None:
        found = sources(f"zip://a.jsonl::{folder}/x.zip", f"zip://a.jsonl::{folder}/y.zip")
        assert [texts(source) for source in found] == [["the one text"], ["the two text"]]

    def test_a_cache_in_front_of_a_web_server(self, server: Server) -> None:
        (server.folder / "a.jsonl").write_bytes(ONE)
        (source,) = sources(f"simplecache::{server.url}/*.jsonl")
        assert source.url == f"simplecache::{server.url}/a.jsonl"
        assert texts(source) == ["the one text"]

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
            texts(source)
        text = str(caught.value)
        assert text.startswith(f"cannot read zip://a.jsonl::{tmp_path}/x.zip: Bad CRC-32")
        assert text.endswith("out of the corpus")
