"""The published construction, recorded for one real pair: `python -m pytest -m npm` fetches the two tokenizers.

The recording's teacher was loaded through a config that names the class GPT2Tokenizer, which brings GPT-2's
pre-tokenizer along. Made with the same mistake the projections agree; without it, 16% of the split rows differ.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from real_tokenizers import npm_tokenizer

from xtoken_core.projection import Projection, ProjectionSettings, Rule, build_projection
from xtoken_core.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "projection" / "llama31_to_o200k.npz"
PUBLISHED = ProjectionSettings(roles=False)  # special tokens by their names alone

pytestmark = pytest.mark.npm


@pytest.fixture(scope="module")
def llama() -> Tokenizer:
    return Tokenizer.load(npm_tokenizer("llama3_1"))


def with_gpt2_pre_tokenizer(folder: Path) -> Tokenizer:
    shutil.copytree(npm_tokenizer("gpt4o"), folder)
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    options = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    definition["pre_tokenizer"] = {"type": "ByteLevel"} | options
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    return Tokenizer.load(folder)


def require_same_exact_rows(projection: Projection, golden: dict[str, np.ndarray]) -> None:
    exact = projection.rules[:, 0] == Rule.EXACT
    assert np.array_equal(exact, golden["exact"])
    assert np.array_equal(projection.indices[exact], golden["indices"][exact])


def test_all_rows_agree(llama: Tokenizer, tmp_path: Path) -> None:
    golden = dict(np.load(GOLDEN))
    projection = build_projection(llama, with_gpt2_pre_tokenizer(tmp_path / "gpt4o"), PUBLISHED)
    require_same_exact_rows(projection, golden)
    others = golden["clean"] & ~golden["exact"]
    assert np.count_nonzero(others) == 24_747
    assert (projection.indices[others, 0] == golden["indices"][others, 0]).mean() >= 0.99
    off = np.abs(projection.weights[others] - golden["weights"][others]).max(axis=1)
    assert (off < 1e-4).mean() >= 0.99


def test_what_its_own_pre_tokenizer_keeps_together_differs(llama: Tokenizer) -> None:
    golden = dict(np.load(GOLDEN))
    teacher = Tokenizer.load(npm_tokenizer("gpt4o"))
    projection = build_projection(llama, teacher, PUBLISHED)
    require_same_exact_rows(projection, golden)
    i = llama.vocabulary.texts.index(".getElement")
    named = [[teacher.vocabulary.texts[j] for j in side["indices"][i] if j >= 0] for side in (vars(projection), golden)]
    assert named == [[".get", "Element"], [".", "get", "Element"]]
