"""What a user brings to a flow, small: a corpus, two tokenizers that differ, a teacher."""

import argparse
import inspect
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
import yaml
from real_tokenizers import begin_with, write_byte_bpe, write_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from flows.config import RunConfig

ROOT = Path(__file__).parents[1]
TEACHER_IDS = 600
STUDENT_IDS = 500
DOCUMENTS = 24
DOCUMENT_CHARACTERS = 600


@dataclass(frozen=True)
class FlowInputs:
    """Folders `student` (a tokenizer), `teacher` (a model with its own) and `corpus` (two JSONL files) below `root`."""

    root: Path

    def config(self, workspace: Path, **sections: Any) -> RunConfig:
        """A run of a few quick steps in `workspace`; `sections` replace top-level keys."""
        return RunConfig.model_validate(self.sections(workspace) | sections)

    def sections(self, workspace: Path) -> dict[str, Any]:
        return {
            "name": "tiny",
            "workspace": str(workspace),
            "student": {"tokenizer": str(self.root / "student"), "max_length": 256, "architecture": ARCHITECTURE},
            "teachers": [self.teacher()],
            "corpus": {"files": [str(self.root / "corpus" / "*.jsonl")], "holdout": 0.25},
            "windows": {"max_bytes": 200, "windows_per_shard": 16},
            "cache": {"top_k": 8, "batch_tokens": 512},
            "training": TRAINING,
        }

    def teacher(self, **changes: Any) -> dict[str, Any]:
        """The teacher's section; `changes` replace keys."""
        return {"name": "llama", "model": str(self.root / "teacher"), "max_length": 256} | changes


ARCHITECTURE = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 2}
TRAINING = {
    "steps": 6,
    "batch_windows": 8,
    "micro_batch_windows": 8,
    "learning_rate": 3e-3,
    "warmup_steps": 2,
    "evaluate_every": 3,
    "checkpoint_every": 3,
    "threads_per_worker": 1,
    "loggers": [],
}


def make_inputs(root: Path) -> FlowInputs:
    """Write all inputs below `root`."""
    write_code_bpe(root / "student", STUDENT_IDS)
    write_byte_bpe(root / "teacher", TEACHER_IDS)
    write_model(root / "teacher", TEACHER_IDS)
    documents = [topics[name][:DOCUMENT_CHARACTERS] for name in sorted(topics)[:DOCUMENTS]]
    write_corpus(root / "corpus" / "first.jsonl", documents[::2])
    write_corpus(root / "corpus" / "second.jsonl", documents[1::2])
    return FlowInputs(root)


def write_corpus(path: Path, documents: list[str]) -> None:
    """One {"text": ...} a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def write_code_bpe(folder: Path, vocab_size: int) -> Path:
    """A byte-level BPE with BOS that was trained on code and splits digits one by one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([inspect.getsource(argparse)], trainer)
    tokenizer.post_processor = begin_with("<s>", 0)
    return write_tokenizer(folder, tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


def write_model(folder: Path, vocab_size: int) -> None:
    """A causal language model that knows nothing, but has an opinion: its logits are spread widely."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=512,
        )
        model = LlamaForCausalLM(config)
        model.lm_head.weight.data.normal_(std=0.5)
        model.save_pretrained(folder)


def shard_bytes(folder: Path) -> dict[str, bytes]:
    """Name -> content of an artifact's shards."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*.arrow"))}


def flip_a_byte(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


# Dies by SIGKILL when file number `at` of an artifact has been written, but not its receipt.
_DYING = """
import os, signal, sys
from pathlib import Path
from storage import artifact
from flows.config_files import load_config

receipts, write = 0, artifact.write_atomic

def die_before_receipt(path, data):
    global receipts
    receipts += 1
    if receipts == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)

artifact.write_atomic = die_before_receipt
config = load_config(Path(sys.argv[1]))
{call}
"""


def run_and_die(config: RunConfig, call: str, at: int, api_url: str) -> None:
    """Run Python code `call` on `config` in a process that is killed (SIGKILL) before the `at`-th receipt."""
    path = Path(config.workspace).with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-c", _DYING.format(call=call), str(path), str(at)]
    environment = {**os.environ, "PREFECT_API_URL": api_url}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
