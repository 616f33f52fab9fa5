"""What files of the corpus are called: below what all files of their source have in common."""

from pathlib import Path

import pytest
from corpus_files import sources

from flows.corpus import find_sources
from flows.corpus.names import names_of
from flows.corpus_config import CorpusConfig


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["/data/en/a.txt"], ["a.txt"]),
        (["/data/en/a.txt", "/data/en/b.txt"], ["a.txt", "b.txt"]),
        (["/data/en/a.txt", "/data/de/a.txt"], ["en/a.txt", "de/a.txt"]),
        (["/data/a.txt", "/data/en/a.txt"], ["a.txt", "en/a.txt"]),
        (["/data/english/a.txt", "/data/en/a.txt"], ["english/a.txt", "en/a.txt"]),
        (["/a.txt", "/b.txt"], ["a.txt", "b.txt"]),
        (["/data/a::b.txt", "/data/c.txt"], ["a::b.txt", "c.txt"]),
        (["s3://one/a.txt", "s3://two/a.txt"], ["one/a.txt", "two/a.txt"]),
        (["s3://one/a.txt", "gs://one/a.txt"], ["s3://one/a.txt", "gs://one/a.txt"]),
        (["zip://in/a.txt::/data/x.zip"], ["a.txt"]),
        (["zip://in/a.txt::/data/x.zip", "zip://in/a.txt::/data/y.zip"], ["x.zip/in/a.txt", "y.zip/in/a.txt"]),
        (["zip://in/a.txt::/data/x.zip", "/data/a.txt"], ["x.zip/in/a.txt", "a.txt"]),
        (["simplecache::https://host/x/a.txt", "simplecache::https://host/y/a.txt"], ["x/a.txt", "y/a.txt"]),
        (["simplecache::zip://a.txt::https://host/x.zip", "zip://b.txt::https://host/x.zip"], ["a.txt", "b.txt"]),
        (["zip://a.txt::tar://y.zip::/z.tar", "zip://a.txt::tar://x.zip::/z.tar"], ["y.zip/a.txt", "x.zip/a.txt"]),
    ],
)
def test_names(urls: list[str], names: list[str]) -> None:
    assert names_of(urls) == dict(zip(urls, names, strict=True))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_file_that_two_patterns_name_is_still_a_lone_one(tmp_path: Path) -> None:
    write(tmp_path, "deep/a.txt")
    assert [file.name for file in sources(tmp_path / "deep" / "a.txt", tmp_path)] == ["a.txt"]


def test_each_source_has_names_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "one/en/a.txt", "one/de/a.txt", "two/en/a.txt")
    parts = [{"name": name, "files": [str(tmp_path / name)]} for name in ("one", "two")]
    found = find_sources(CorpusConfig(sources=parts))
    assert [(file.source.name, file.name) for file in found] == [
        ("one", "de/a.txt"),
        ("one", "en/a.txt"),
        ("two", "a.txt"),
    ]


def test_a_name_that_others_make_longer_is_no_reason_to_read_a_file_again(tmp_path: Path) -> None:
    write(tmp_path, "en/a.txt")
    (alone,) = sources(tmp_path)
    write(tmp_path, "de/a.txt")
    _, one_of_two = sources(tmp_path)
    assert (alone.name, one_of_two.name) == ("a.txt", "en/a.txt")
    assert alone.key == one_of_two.key
