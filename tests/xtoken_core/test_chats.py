"""Chats in tokens: where the contents are, whatever the template does with them, and what the assistant says."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_templates import CHATML, INSTRUCT, SHOUTING, STRICT
from fakes import reproducible
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.chats import ChatError, ChatTemplate, EncodedRows, encode_chats, read_chat_template, spelled_marks
from xtoken_core.chats.encode import Refusal
from xtoken_core.tokenizer import Tokenizer

MARKS = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = {
    name: ChatTemplate(source, MARKS)
    for name, source in (("chatml", CHATML), ("instruct", INSTRUCT), ("strict", STRICT))
}
# Templates whose marks the tokenizer knows: elsewhere the end of a content can merge with the template behind it.
PAIRS = [("byte_bpe", "chatml"), ("byte_bpe", "strict"), ("mistral_v1", "instruct"), ("tekken", "instruct")]

DAY = date(2024, 7, 26)
SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "What is 2 + 2? 😀"}
ANSWER = {"role": "assistant", "content": "It is 4."}


def spelled(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
    """Marks by their names."""
    vocabulary = tokenizer.vocabulary
    return b"".join(vocabulary.token_bytes(i) or vocabulary.texts[i].encode() for i in ids.tolist())


def segments(tokenizer: Tokenizer, rows: EncodedRows, row: int = 0) -> list[bytes]:
    """What each segment spells, without the bytes of its first token that belong to the one before."""
    ids, ends = rows.ids.row(row), rows.segment_ends.row(row).tolist()
    leads = rows.segment_leads.row(row).tolist()
    starts = [0, *ends[:-1]]
    return [spelled(tokenizer, ids[a:b])[lead:] for a, b, lead in zip(starts, ends, leads, strict=True)]


def contents(tokenizer: Tokenizer, rows: EncodedRows, row: int = 0) -> list[bytes]:
    return segments(tokenizer, rows, row)[1::2]


def learned(tokenizer: Tokenizer, rows: EncodedRows, row: int = 0) -> bytes:
    return spelled(tokenizer, rows.ids.row(row)[rows.loss_mask.row(row)])


def encode(tokenizer: Tokenizer, source: str, chat: Sequence[Mapping[str, Any]], keep: bool = True) -> EncodedRows:
    return encode_chats(tokenizer, ChatTemplate(source, MARKS), [chat], keep)


@pytest.mark.parametrize(("name", "template"), PAIRS)
def test_contents_are_found_byte_for_byte(name: str, template: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    rows = encode_chats(tokenizer, TEMPLATES[template], [[QUESTION, ANSWER]], True)
    assert contents(tokenizer, rows) == [QUESTION["content"].encode(), ANSWER["content"].encode()]
    assert rows.segment_ends.row(0)[-1] == len(rows.ids.row(0))
    assert rows.rewritten == 0


def test_all_bytes_of_the_rendered_chat_are_in_some_segment(byte_bpe: Tokenizer) -> None:
    rows = encode(byte_bpe, CHATML, [SYSTEM, QUESTION, ANSWER])
    text = ChatTemplate(CHATML, MARKS).render([SYSTEM, QUESTION, ANSWER])
    assert b"".join(segments(byte_bpe, rows)) == text.encode()


TEXTS = st.text(st.sampled_from([*"ab 1.\n\té中😀<|>"]), min_size=1, max_size=20) | st.sampled_from(
    ["</s>", "<s> x", " <|im_end|>", "a<|im_end|>\n<|im_start|>", "[/INST]", "xq0p0qx", "{{ x }}", "it's\r\n"]
)


@reproducible
@given(texts=st.lists(TEXTS, min_size=2, max_size=5))
def test_no_content_can_pass_for_a_template(byte_bpe: Tokenizer, mistral_v1: Tokenizer, texts: list[str]) -> None:
    """Whatever the contents are: in each model's tokens they spell what the template made of them, and no marks."""
    chat = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]
    for tokenizer, source in ((byte_bpe, CHATML), (mistral_v1, INSTRUCT), (mistral_v1, STRICT)):
        rows = encode(tokenizer, source, chat)
        expected = [text.strip() if source is CHATML else text for text in texts]
        assert contents(tokenizer, rows) == [text.encode() for text in expected]
        for start, end in rows.segment_ends.row(0)[:-1].reshape(-1, 2):
            assert (tokenizer.vocabulary.kind[rows.ids.row(0)[start:end]] == 0).all()


class TestMask:
    def test_it_holds_what_the_assistant_says_and_the_end_of_its_turn(self, byte_bpe: Tokenizer) -> None:
        chat = [QUESTION, ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
        assert learned(byte_bpe, encode(byte_bpe, CHATML, chat)) == b"It is 4.<|im_end|>Yes.<|im_end|>"

    def test_an_end_of_text_ends_a_turn_too(self, mistral_v1: Tokenizer) -> None:
        assert learned(mistral_v1, encode(mistral_v1, INSTRUCT, [QUESTION, ANSWER])) == b" It is 4.</s>"

    def test_without_a_mark_behind_the_answer_it_ends_with_it(self, byte_bpe: Tokenizer) -> None:
        assert learned(byte_bpe, encode(byte_bpe, STRICT, [QUESTION, ANSWER])) == b" It is 4."

    def test_nothing_is_learned_from_a_chat_without_answers(self, byte_bpe: Tokenizer) -> None:
        assert not encode(byte_bpe, CHATML, [SYSTEM, QUESTION]).loss_mask.values.any()

    def test_a_thought_that_the_template_drops_leaves_the_turn_before_alone(self, byte_bpe: Tokenizer) -> None:
        """Many templates keep the thoughts of the last answer only."""
        last_only = CHATML.replace("{% if m.reasoning_content %}", "{% if m.reasoning_content and loop.last %}")
        thought = ANSWER | {"reasoning_content": "Easy."}
        rows = encode(byte_bpe, last_only, [QUESTION, thought, QUESTION, thought])
        assert learned(byte_bpe, rows) == b"It is 4.<|im_end|>Easy.\n</think>\n\nIt is 4.<|im_end|>"

    def test_a_message_that_the_template_drops_does_not_end_the_turn_before_it(self, byte_bpe: Tokenizer) -> None:
        no_tools = CHATML.replace("for m in messages", "for m in messages if m.role != 'tool'")
        rows = encode(byte_bpe, no_tools, [QUESTION, ANSWER, {"role": "tool", "content": "4"}])
        assert learned(byte_bpe, rows) == b"It is 4.<|im_end|>"


class TestWhatTemplatesDo:
    def test_a_token_that_goes_on_behind_a_content_keeps_the_segments_in_order(self, tekken: Tokenizer) -> None:
        """STRICT knows no thoughts, and tekken has a token for the full stop and the newline behind it."""
        chat = [{"role": "user", "content": "Hi there."}, {"role": "assistant", "content": "Hello.", "thinking": "Hm."}]
        rows = encode(tekken, STRICT, chat)
        ends = rows.segment_ends.row(0)
        assert (np.diff(ends) >= 0).all()
        assert contents(tekken, rows) == [b"Hi there.\n", b"", b"Hello.\n"]

    def test_contents_that_share_a_token_keep_the_segments_in_order(self, byte_bpe: Tokenizer) -> None:
        both = "{% for m in messages %}{{ m.content }}{% endfor %}"
        rows = encode(byte_bpe, both, [{"role": "user", "content": "th"}, {"role": "assistant", "content": "e end"}])
        assert (np.diff(rows.segment_ends.row(0)) >= 0).all()
        assert b"".join(segments(byte_bpe, rows)) == b"the end"

    def test_a_date_in_an_unknown_form_is_refused_rather_than_todays(self, byte_bpe: Tokenizer) -> None:
        today = "{% set form = '%Y' %}{{ strftime_now(form) }}{% for m in messages %}{{ m.content }}{% endfor %}"
        rows = encode(byte_bpe, today, [QUESTION])
        assert "asks for today's date in a form that is not written out" in rows.refused[0].reason

    def test_a_template_that_fails_in_any_way_refuses_the_chat(self, byte_bpe: Tokenizer) -> None:
        (refusal,) = encode(byte_bpe, "{{ 1 / 0 }}", [QUESTION]).refused
        assert refusal.reason == "the chat template refuses a chat: division by zero"

    def test_a_content_that_is_left_out_is_an_empty_segment(self, byte_bpe: Tokenizer, tekken: Tokenizer) -> None:
        without = ChatTemplate("{% for m in messages if m.role != 'system' %}<s>{{ m.content }}</s>{% endfor %}", MARKS)
        rows = encode_chats(tekken, without, [[SYSTEM, QUESTION, ANSWER]], True)
        assert contents(tekken, rows) == [b"", QUESTION["content"].encode(), b"It is 4."]
        other = encode(byte_bpe, CHATML, [SYSTEM, QUESTION, ANSWER])
        assert len(rows.segment_ends.values) == len(other.segment_ends.values)
        assert rows.rewritten == 1

    def test_a_content_that_comes_later_than_its_place_counts_as_template(self, tekken: Tokenizer) -> None:
        chat = [SYSTEM, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, QUESTION, ANSWER]
        rows = encode(tekken, INSTRUCT, chat)
        assert contents(tekken, rows) == [b"", b"Hi", b"Ho", QUESTION["content"].encode(), b"It is 4."]
        assert b"Be brief.\n\n" in segments(tekken, rows)[6]

    def test_a_content_that_is_rewritten_is_found_and_counted(self, byte_bpe: Tokenizer) -> None:
        rows = encode(byte_bpe, SHOUTING, [QUESTION, ANSWER])
        assert contents(byte_bpe, rows) == [QUESTION["content"].encode(), b"IT IS 4."]
        assert rows.rewritten == 1

    def test_today_is_the_day_that_was_given(self, byte_bpe: Tokenizer) -> None:
        rows = encode_chats(byte_bpe, ChatTemplate(SHOUTING, MARKS, date(2026, 2, 3)), [[QUESTION]], True)
        assert segments(byte_bpe, rows)[0].startswith(b"03 Feb 2026")

    def test_a_chat_that_is_refused_has_an_empty_row(self, byte_bpe: Tokenizer) -> None:
        rows = encode_chats(byte_bpe, TEMPLATES["strict"], [[QUESTION, ANSWER], [ANSWER]], True)
        assert rows.ids.lengths.tolist()[1] == 0 == len(rows.segment_ends.row(1))
        assert contents(byte_bpe, rows, 0)[1] == b"It is 4."
        assert rows.refused == (Refusal(1, "the chat template refuses a chat: roles must alternate"),)


class TestThinking:
    THOUGHT = ({"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nIt is 4."}, ANSWER | {"thinking": "Easy."})

    @pytest.mark.parametrize("answer", THOUGHT)
    def test_kept_thoughts_are_a_content_of_their_own(self, byte_bpe: Tokenizer, answer: dict[str, str]) -> None:
        rows = encode(byte_bpe, CHATML, [QUESTION, answer])
        assert contents(byte_bpe, rows)[1:] == [b"Easy.", b"It is 4."]
        assert learned(byte_bpe, rows) == b"Easy.\n</think>\n\nIt is 4.<|im_end|>"

    @pytest.mark.parametrize("answer", THOUGHT)
    def test_dropped_thoughts_leave_no_trace(self, byte_bpe: Tokenizer, answer: dict[str, str]) -> None:
        rows = encode(byte_bpe, CHATML, [QUESTION, answer], keep=False)
        plain = encode(byte_bpe, CHATML, [QUESTION, ANSWER])
        np.testing.assert_array_equal(rows.ids.values, plain.ids.values)

    def test_a_template_that_knows_no_thoughts_leaves_an_empty_segment(self, mistral_v1: Tokenizer) -> None:
        rows = encode(mistral_v1, INSTRUCT, [QUESTION, self.THOUGHT[0]])
        assert contents(mistral_v1, rows)[1:] == [b"", b"It is 4."]


def test_calls_of_tools_are_learned_with_their_names_as_contents(byte_bpe: Tokenizer) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    chat = [QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "4"}]
    rows = encode(byte_bpe, CHATML, chat)
    assert contents(byte_bpe, rows) == [QUESTION["content"].encode(), b"add", b"4"]
    assert learned(byte_bpe, rows) == b'add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>'


class TestReading:
    def write(self, folder: Path, config: Mapping[str, Any], jinja: str | None = None) -> Path:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        if jinja is not None:
            (folder / "chat_template.jinja").write_text(jinja)
        return folder

    def test_the_file_is_read_before_the_config(self, tmp_path: Path) -> None:
        bos = {"__type": "AddedToken", "content": "<b>"}
        folder = self.write(
            tmp_path, {"chat_template": "config", "bos_token": bos, "eos_token": None}, "{{ bos_token }}"
        )
        assert read_chat_template(folder, DAY).render([QUESTION]) == "<b>"

    def test_of_several_templates_the_default_is_taken(self, tmp_path: Path) -> None:
        named = [{"name": "rag", "template": "rag"}, {"name": "default", "template": "plain"}]
        assert read_chat_template(self.write(tmp_path, {"chat_template": named}), DAY).source == "plain"

    @pytest.mark.parametrize("config", [{}, {"chat_template": [{"name": "rag", "template": "rag"}]}])
    def test_a_model_without_a_template(self, tmp_path: Path, config: dict[str, Any]) -> None:
        with pytest.raises(ChatError, match=r"has no chat template .* put the model's template there"):
            read_chat_template(self.write(tmp_path, config), DAY)

    @pytest.mark.parametrize("source", ["{% for m in %}", "{{ raise_exception('no') }}"])
    def test_a_template_that_takes_no_chat_at_all(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(ChatError, match=r"a question and an answer are too much for it: .*; repair the template"):
            read_chat_template(self.write(tmp_path, {}, source), DAY)


def test_marks_that_the_tokenizer_spells_in_pieces_are_found(byte_bpe: Tokenizer) -> None:
    own = [mark for mark in ("<|im_start|>", "<|im_end|>") if byte_bpe.backend.token_to_id(mark) is None]
    assert spelled_marks(byte_bpe, ChatTemplate(CHATML)) == own
    other = ChatTemplate("{% for m in messages %}<|odd|>{{ m['content'] }}<|bos|> a < b |> c{% endfor %}")
    assert spelled_marks(byte_bpe, other) == ["<|odd|>"]
