from pathlib import Path

import pytest

from flows.resolve import load_tokenizer
from xtoken_core.models import ModelError


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"holds no tokenizer\.json, .*: give a tokenizer's folder or convert it"):
        load_tokenizer(str(tmp_path))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        load_tokenizer(str(tmp_path / "none"))
