"""Groups of files: which files share shards, and that a change anywhere leaves the groups elsewhere as they are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from corpus_files import sources
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from flows.corpus import FileGroup, SourceFile, groups_of
from flows.corpus.groups import LARGE_BYTES
from flows.corpus_config import SourceConfig

ONE, TWO = (SourceConfig(name=name, files=("*.txt",)) for name in ("one", "two"))
MOST_FILES, MOST_BYTES = 2048, 8 * LARGE_BYTES
SIZES = st.one_of(st.none(), st.integers(0, 9000), st.integers(LARGE_BYTES // 8, 2 * LARGE_BYTES))


def file_of(number: int, size: int | None = 2000, source: SourceConfig = ONE, content: str = "") -> SourceFile:
    return SourceFile(f"/corpus/{number}.txt", f"{number}.txt", f"digest {number} {content}", source, size)


def keys(groups: Sequence[FileGroup]) -> Counter[str]:
    return Counter(group.key for group in groups)


@reproducible
@given(st.lists(st.tuples(SIZES, st.integers(0, 1)), max_size=60))
def test_groups_are_the_files_in_order_each_of_one_source(drawn: list[tuple[int | None, int]]) -> None:
    by_source = sorted(drawn, key=lambda one: one[1])
    files = [file_of(number, size, (ONE, TWO)[which]) for number, (size, which) in enumerate(by_source)]
    groups = groups_of(files)
    assert [file for group in groups for file in group.files] == files
    for group in groups:
        assert len({file.source.name for file in group.files}) == 1
        small = [file.size is not None and file.size < LARGE_BYTES for file in group.files]
        assert all(small) or len(small) == 1


def test_groups_have_on_average_what_a_shard_should_have() -> None:
    tiny = groups_of(file_of(number, 20) for number in range(50_000))
    assert 50_000 / len(tiny) == pytest.approx(256, rel=0.15)
    larger = groups_of(file_of(number, 50_000) for number in range(10_000))
    assert 10_000 * 50_000 / len(larger) == pytest.approx(LARGE_BYTES, rel=0.15)


@pytest.mark.parametrize(("size", "most"), [(10, MOST_FILES), (LARGE_BYTES // 2, MOST_BYTES // (LARGE_BYTES // 2))])
def test_files_that_never_end_a_group_make_no_endless_one(size: int, most: int) -> None:
    """Many files may be the same, and then all or none of them would end a group."""
    never = next(file for number in range(99) if len(groups_of([file := file_of(number, size)] * 2)) == 1)
    assert {len(group.files) for group in groups_of([never] * (3 * most))} == {most}


@reproducible
@given(st.integers(0, 599), st.sampled_from(["add", "add a large one", "remove", "change"]))
def test_a_change_leaves_all_groups_but_those_beside_it(place: int, change: str) -> None:
    files = [file_of(number, 20_000) for number in range(600)]
    new = file_of(place, LARGE_BYTES if "large" in change else 20_000, content="new")
    changed = [*files[:place], *([] if change == "remove" else [new]), *files[place + (not change.startswith("add")) :]]
    before, after = groups_of(files), groups_of(changed)
    assert len(before) > 10
    assert (keys(after) - keys(before)).total() <= 3
    assert (keys(before) - keys(after)).total() <= 2


def test_the_key_is_of_all_files(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    (before,) = groups_of(sources(tmp_path))
    (tmp_path / "b.txt").write_text("b.tXt")
    (after,) = groups_of(sources(tmp_path))
    assert before.key != after.key
    assert before.name == after.name == "a.txt and 1 more file(s)"
    assert FileGroup(before.files[:1]).name == "a.txt"


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 1234)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    assert [file.size for file in sources(tmp_path)] == [1234, 1234]
