from pathlib import Path

import pytest
import torch
from tiny_workspace import TinyWorkspace
from transformers import LlamaForCausalLM, PreTrainedModel

from trainer.errors import ModelError
from trainer.job import StudentInputs
from trainer.model import Student, make_student


@pytest.fixture
def inputs(tiny: TinyWorkspace) -> StudentInputs:
    return tiny.job("unused").student


@pytest.fixture
def model(tiny: TinyWorkspace, inputs: StudentInputs) -> PreTrainedModel:
    return make_student(inputs, tiny.student.vocabulary, seed=3).eval()


def saved(model: PreTrainedModel, folder: Path, inputs: StudentInputs) -> StudentInputs:
    model.save_pretrained(folder)
    return inputs.model_copy(update={"model": folder})


def test_a_new_student_depends_on_its_seed_alone(tiny: TinyWorkspace, inputs: StudentInputs) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    students = [make_student(inputs, tiny.student.vocabulary, seed) for seed in (1, 1, 2)]
    weights = [student.get_input_embeddings().weight for student in students]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_new_student_fits_its_tokenizer(model: PreTrainedModel) -> None:
    assert (model.config.vocab_size, model.config.max_position_embeddings) == (400, 128)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (0, 1, None)


def test_a_student_from_a_folder_is_the_one_saved(
    tmp_path: Path, tiny: TinyWorkspace, inputs: StudentInputs, model: PreTrainedModel
) -> None:
    opened = make_student(saved(model.bfloat16(), tmp_path, inputs), tiny.student.vocabulary, seed=0)
    assert opened.dtype == torch.float32
    assert torch.equal(opened.get_input_embeddings().weight, model.get_input_embeddings().weight.float())


def test_logits_of_chosen_places_are_those_of_the_plain_model(tiny: TinyWorkspace, model: PreTrainedModel) -> None:
    ids = torch.randint(0, 400, (3, 9), generator=torch.Generator().manual_seed(0))
    expected = model(ids).logits
    row, position = torch.tensor([2, 0, 0, 1]), torch.tensor([8, 0, 7, 3])
    found = Student(model, tiny.student.vocabulary.size)(ids, row, position)
    torch.testing.assert_close(found, expected[row, position])


def test_padding_does_not_change_what_stands_before_it(tiny: TinyWorkspace, model: PreTrainedModel) -> None:
    ids = torch.randint(0, 400, (1, 6), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    student = Student(model, tiny.student.vocabulary.size)
    places = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    torch.testing.assert_close(student(padded, *places), student(ids, *places))


def test_a_padded_head_is_cut(
    tmp_path: Path, tiny: TinyWorkspace, inputs: StudentInputs, model: LlamaForCausalLM
) -> None:
    model.resize_token_embeddings(448, mean_resizing=False)
    opened = make_student(saved(model, tmp_path, inputs), tiny.student.vocabulary, seed=0)
    one = torch.zeros(1, dtype=torch.int64)
    assert Student(opened, tiny.student.vocabulary.size)(one[None], one, one).shape == (1, 400)


def test_a_student_that_is_too_small_is_refused(
    tmp_path: Path, tiny: TinyWorkspace, inputs: StudentInputs, model: LlamaForCausalLM
) -> None:
    long = saved(model, tmp_path / "a", inputs).model_copy(update={"max_length": 129})
    with pytest.raises(ModelError, match="has 128 positions, windows may have 129 tokens"):
        make_student(long, tiny.student.vocabulary, seed=0)
    model.resize_token_embeddings(399)
    with pytest.raises(ModelError, match="has 399 embedding rows, its tokenizer has ids up to 399"):
        make_student(saved(model, tmp_path / "b", inputs), tiny.student.vocabulary, seed=0)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, tiny: TinyWorkspace, inputs: StudentInputs) -> None:
    with pytest.raises(ModelError, match="cannot open a causal language model"):
        make_student(inputs.model_copy(update={"model": tmp_path}), tiny.student.vocabulary, seed=0)
