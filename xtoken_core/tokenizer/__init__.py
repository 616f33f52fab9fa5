"""Tokenizers of every format that causal language models come with: read, proved to spell bytes, and run fast."""

from xtoken_core.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
