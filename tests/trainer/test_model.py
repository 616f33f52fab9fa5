from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fakes import fake_vocabulary
from tiny_workspace import TinyWorkspace
from transformers import LlamaForCausalLM, PreTrainedModel

from trainer.job import StudentInputs
from trainer.model import Student, embedding_rows, first_ids, make_student
from trainer.rows import Rows
from trainer.windows import StudentWindows
from xtoken_core.models import ModelError

Open = Callable[..., PreTrainedModel]


@pytest.fixture
def inputs(tiny: TinyWorkspace) -> StudentInputs:
    return tiny.job("unused").student


@pytest.fixture
def student(tiny: TinyWorkspace) -> Open:
    """Makes the student of some inputs."""
    windows = StudentWindows.open(tiny.windows.folder, tiny.student_tokens.folder)
    return lambda inputs, seed=0: make_student(inputs, tiny.student.vocabulary, windows, seed)


@pytest.fixture
def model(inputs: StudentInputs, student: Open) -> PreTrainedModel:
    return student(inputs, seed=3).eval()


def saved(model: PreTrainedModel, folder: Path, inputs: StudentInputs) -> StudentInputs:
    model.save_pretrained(folder)
    return inputs.model_copy(update={"model": folder})


def test_a_new_student_depends_on_its_seed_alone(inputs: StudentInputs, student: Open) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    students = [student(inputs, seed) for seed in (1, 1, 2)]
    weights = [student.get_input_embeddings().weight for student in students]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_new_student_fits_its_tokenizer(model: PreTrainedModel) -> None:
    assert (model.config.vocab_size, model.config.max_position_embeddings) == (400, 128)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (0, 1, None)


def test_a_student_from_a_folder_is_the_one_saved(
    tmp_path: Path, inputs: StudentInputs, student: Open, model: PreTrainedModel
) -> None:
    opened = student(saved(model.bfloat16(), tmp_path, inputs))
    assert opened.dtype == torch.float32
    assert torch.equal(opened.get_input_embeddings().weight, model.get_input_embeddings().weight.float())


def test_logits_of_chosen_places_are_those_of_the_plain_model(tiny: TinyWorkspace, model: PreTrainedModel) -> None:
    ids = torch.randint(0, 400, (3, 9), generator=torch.Generator().manual_seed(0))
    expected = model(ids).logits
    row, position = torch.tensor([2, 0, 0, 1]), torch.tensor([8, 0, 7, 3])
    found = Student(model, tiny.student.vocabulary.size).logits(Rows(ids, row, position, None))
    torch.testing.assert_close(found, expected[row, position])


def test_padding_does_not_change_what_stands_before_it(tiny: TinyWorkspace, model: PreTrainedModel) -> None:
    ids = torch.randint(0, 400, (1, 6), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    student = Student(model, tiny.student.vocabulary.size)
    places = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    long, short = (student.logits(Rows(one, *places, None)) for one in (padded, ids))
    torch.testing.assert_close(long, short)


def test_a_padded_head_is_cut(tmp_path: Path, inputs: StudentInputs, student: Open, model: LlamaForCausalLM) -> None:
    model.resize_token_embeddings(448, mean_resizing=False)
    opened = student(saved(model, tmp_path, inputs))
    one = torch.zeros(1, dtype=torch.int64)
    assert Student(opened, 400).logits(Rows(one[None], one, one, None)).shape == (1, 400)


def test_a_student_that_is_too_small_is_refused(
    tmp_path: Path, inputs: StudentInputs, student: Open, model: LlamaForCausalLM
) -> None:
    long = saved(model, tmp_path / "a", inputs).model_copy(update={"max_length": 129})
    with pytest.raises(ModelError, match=r"has 128 positions, windows may have 129 tokens: set student\.max_length"):
        student(long)
    model.resize_token_embeddings(398)
    with pytest.raises(ModelError, match=r"has 398 embedding rows, .*student_tokens holds the id 398"):
        student(saved(model, tmp_path / "b", inputs))


def test_a_student_needs_rows_only_for_the_ids_of_its_tokens(
    tmp_path: Path, inputs: StudentInputs, student: Open, model: LlamaForCausalLM
) -> None:
    model.resize_token_embeddings(399)
    opened = student(saved(model, tmp_path, inputs))
    assert embedding_rows(opened) == 399


def test_what_a_model_has_no_row_for_is_no_part_of_its_vocabulary() -> None:
    vocabulary = fake_vocabulary(["<s>", b"a", b"bc", b"d", "<pad>"], roles={"bos": 0, "pad": 4})
    known = first_ids(vocabulary, 3)
    assert (known.size, known.texts, dict(known.roles)) == (3, ("<s>", "a", "bc"), {"bos": 0})
    assert known.lookup == {b"a": 1, b"bc": 2}
    assert first_ids(vocabulary, 5) is vocabulary is first_ids(vocabulary, 8)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, inputs: StudentInputs, student: Open) -> None:
    with pytest.raises(ModelError, match="cannot open a causal language model"):
        student(inputs.model_copy(update={"model": tmp_path}))
