"""Chats in a column of messages: what chat templates take comes through, anything else is a bad row that says why."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from corpus_files import FORMATS, TABLES, Folder, as_jsonl, as_parquet
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from flows.corpus import Message, Reason

USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": [1.5, None, True]}}}
TOOLS = [
    {"role": "system", "content": "Be short."},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "I should add."},
    {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "add"},
    {"role": "assistant", "content": "4", "thinking": "Easy."},
]
PART = {"type": "text", "text": "What is "}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def read(folder: Folder, chats: list[Any], name: str = "a.jsonl") -> list[tuple[Message, ...] | None]:
    """The chats that a file of these gives."""
    data = FORMATS[name](chats, "messages")
    return [document.messages for document in folder.documents(name, data, messages_column="messages")]


class TestGood:
    @pytest.mark.parametrize("name", FORMATS)
    def test_a_chat_comes_as_it_was_written(self, folder: Folder, name: str) -> None:
        assert read(folder, [[USER, ANSWER], [USER]], name) == [(USER, ANSWER), (USER,)]
        assert folder.rows.stats() == {"empty_rows": 0, "bad_rows": 0}

    def test_tools_and_thinking(self, folder: Folder) -> None:
        assert read(folder, [TOOLS]) == [tuple(TOOLS)]

    @pytest.mark.parametrize("name", TABLES)
    def test_a_null_field_of_a_table_is_not_there(self, folder: Folder, name: str) -> None:
        call = {"function": {"name": "f", "arguments": {"a": 1}}}
        other = {"function": {"name": "g", "arguments": {"b": "x"}}}
        chat = [{"role": "assistant", "content": None, "tool_calls": [call, other]}, USER]
        assert read(folder, [chat], name) == [tuple(chat)]

    @pytest.mark.parametrize("name", FORMATS)
    def test_share_gpt(self, folder: Folder, name: str) -> None:
        speakers = {"system": "system", "human": "user", "gpt": "assistant", "tool": "tool"}
        chat = [{"from": speaker, "value": f"by {speaker}"} for speaker in speakers]
        assert read(folder, [chat], name) == [
            tuple({"role": role, "content": f"by {speaker}"} for speaker, role in speakers.items())
        ]

    @pytest.mark.parametrize("name", FORMATS)
    def test_text_in_parts_is_joined(self, folder: Folder, name: str) -> None:
        chat = [{"role": "user", "content": [PART, {"type": "text", "text": "2 + 2?"}]}]
        assert read(folder, [chat], name) == [(USER,)]

    @pytest.mark.parametrize("name", FORMATS)
    def test_chats_as_json_text(self, folder: Folder, name: str) -> None:
        assert read(folder, [json.dumps(TOOLS)], name) == [tuple(TOOLS)]

    @pytest.mark.parametrize("name", TABLES)
    def test_json_inside_a_table(self, folder: Folder, name: str) -> None:
        call = {"function": {"name": "f", "arguments": {"a": None, "b": [1, "x"]}}}
        arguments = pa.array([json.dumps(call), None])
        calls = pa.ListArray.from_arrays([0, 1, 2], pa.ExtensionArray.from_storage(pa.json_(), arguments))
        messages = pa.StructArray.from_arrays(
            [pa.array(["user", "tool"]), pa.array(["x", "y"]), calls.slice(0, 2)], ["role", "content", "tool_calls"]
        )
        chats = pa.ListArray.from_arrays([0, 1], messages)
        assert read(folder, chats, name) == [({"role": "user", "content": "x", "tool_calls": [call]},)]

    def test_other_keys_are_left_out(self, folder: Folder) -> None:
        message = {**USER, "id": 7, "rating": None, "tool_calls": [], "name": None}
        assert read(folder, [[message]]) == [(USER,)]

    @reproducible
    @given(
        st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant", "ipython"]),
                    "content": st.text(st.characters(codec="utf-8")),
                },
                optional={"name": st.text(st.characters(codec="utf-8"))},
            ),
            min_size=1,
        ),
        st.sampled_from(["a.jsonl", "a.parquet", "cache.arrow"]),
    )
    def test_any_chat_comes_back(
        self, tmp_path_factory: pytest.TempPathFactory, chat: list[dict[str, str]], name: str
    ) -> None:
        folder = Folder(tmp_path_factory.getbasetemp())
        says_something = any(message["content"] for message in chat)
        assert read(folder, [chat], name) == ([tuple(chat)] if says_something else [])
        assert folder.rows.stats() == {"empty_rows": not says_something, "bad_rows": 0}


class TestEmpty:
    @pytest.mark.parametrize("chat", [[], [{"role": "user", "content": ""}], [{"role": "user", "content": None}]])
    def test_a_chat_in_which_nobody_says_anything(self, folder: Folder, chat: list[Any]) -> None:
        assert read(folder, [chat, [USER]]) == [(USER,)]
        assert folder.rows.stats() == {"empty_rows": 1, "bad_rows": 0}


class TestBad:
    @pytest.mark.parametrize(
        ("chat", "reason", "found"),
        [
            (None, Reason.NULL, "None"),
            (5, Reason.NOT_CHAT, "5 is not a list of messages"),
            (USER, Reason.NOT_CHAT, "{'content': 'What is 2 + 2?', 'role': 'user'} is not a list of messages"),
            ("no JSON", Reason.NOT_CHAT, "'no JSON' is not a list of messages"),
            ('{"role": "user"}', Reason.NOT_CHAT, "is not a list of messages"),
            (["hello"], Reason.NOT_CHAT, "the message 'hello' has no role"),
            ([USER, {"content": "x"}], Reason.NOT_CHAT, "role is None, not a string"),
            (
                [{"role": "alien", "content": "x"}],
                Reason.NOT_CHAT,
                "role is 'alien', not one of system, developer, user, assistant, tool, function, ipython",
            ),
            ([{"role": 1, "content": "x"}], Reason.NOT_CHAT, "role is 1, not a string"),
            ([{"role": "user", "content": 5}], Reason.NOT_CHAT, "content is 5, not a string"),
            ([{"role": "user", "content": {"a": 1}}], Reason.NOT_CHAT, "content is {'a': 1}, not a string"),
            (
                [{"role": "user", "content": [PART, {"type": "image", "url": "x.png"}]}],
                Reason.NOT_CHAT,
                "a part of a content is {'type': 'image', 'url': 'x.png'}, not text",
            ),
            ([{"role": "user", "content": ["x"]}], Reason.NOT_CHAT, "a part of a content is 'x', not text"),
            ([{"role": "user", "content": [{"type": "text"}]}], Reason.NOT_CHAT, "text is None, not a string"),
            ([{**ANSWER, "name": ["x"]}], Reason.NOT_CHAT, "name is ['x'], not a string"),
            ([{**ANSWER, "tool_calls": "add()"}], Reason.NOT_CHAT, "tool_calls is 'add()', not a list of calls"),
            ([{**ANSWER, "tool_calls": ["add()"]}], Reason.NOT_CHAT, "tool_calls is ['add()'], not a list of calls"),
            (
                [{"from": "bing", "value": "x"}],
                Reason.NOT_CHAT,
                "`from` is 'bing', not one of human, gpt, system, tool",
            ),
            ([{"from": ["gpt"], "value": "x"}], Reason.NOT_CHAT, "`from` is ['gpt'], not one of"),
            ([{"from": "gpt", "value": 1}], Reason.NOT_CHAT, "content is 1, not a string"),
            ([{"role": "user", "content": "a\ud800"}], Reason.LONE_SURROGATE, r"content 'a\ud800'"),
            ([{"role": "\udfff", "content": "a"}], Reason.LONE_SURROGATE, r"role '\udfff'"),
            ([{**ANSWER, "tool_calls": [{"f": [{"\ud800": 1}]}]}], Reason.LONE_SURROGATE, "a key of tool_calls"),
            ([{**ANSWER, "tool_calls": [{"f": ["\ud800"]}]}], Reason.LONE_SURROGATE, "a value of tool_calls"),
            (json.dumps([{"role": "user", "content": "\ud800"}]), Reason.LONE_SURROGATE, r"content '\ud800'"),
        ],
        ids=str,
    )
    def test_a_bad_chat_costs_itself_alone(self, folder: Folder, chat: Any, reason: Reason, found: str) -> None:
        assert read(folder, [[USER], chat, [ANSWER]]) == [(USER,), (ANSWER,)]
        assert folder.rows.counts == {reason: 1}
        (example,) = folder.rows.examples
        assert example.place == "line 2"
        assert found in example.bad.found

    def test_a_chat_that_is_nested_too_deep(self, folder: Folder) -> None:
        deep: Any = []
        for _ in range(600):
            deep = [deep]
        assert read(folder, [[USER], [{**ANSWER, "tool_calls": [{"f": deep}]}]]) == [(USER,)]
        assert folder.rows.counts == {Reason.NOT_CHAT: 1}

    @pytest.mark.parametrize("name", TABLES)
    def test_bytes_in_a_table_that_are_not_utf_8(self, folder: Folder, name: str) -> None:
        kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        raw = pa.list_(pa.struct([("role", pa.binary()), ("content", pa.binary())]))
        chats = pa.array([[{"role": b"user", "content": content}] for content in (b"a", b"\xff", b"b")], raw).view(kind)
        assert read(folder, chats, name) == [({"role": "user", "content": text},) for text in "ab"]
        assert [str(row) for row in folder.rows.examples] == [r"row 1 is not utf8: content b'\xff'"]

    def test_json_text_that_is_not_utf_8(self, folder: Folder) -> None:
        data = as_parquet(pa.array([b"\xff\xfe\xff", json.dumps([USER]).encode()]), "messages")
        (document,) = folder.documents("a.parquet", data, messages_column="messages")
        assert document.messages == (USER,)
        assert folder.rows.counts == {Reason.NOT_UTF8: 1}

    def test_a_value_that_json_cannot_hold(self, folder: Folder) -> None:
        calls = pa.array([[{"role": "user", "tool_calls": [{"when": pa.scalar(0, pa.timestamp("s")).as_py()}]}]])
        assert folder.documents("a.parquet", as_parquet(calls, "messages"), messages_column="messages") == []
        assert "a value of tool_calls is datetime.datetime(1970" in str(folder.rows.examples[0])

    def test_a_file_of_texts(self, folder: Folder) -> None:
        assert folder.documents("a.jsonl", as_jsonl(["text", "text"]), messages_column="text") == []
        assert folder.rows.counts == {Reason.NOT_CHAT: 2}
