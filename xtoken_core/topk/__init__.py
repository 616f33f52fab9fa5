"""What is kept of a teacher's next-token distributions: the records, how they are made and how they are stored."""

from xtoken_core.topk.codecs import Codec, CodecError, codec_error, decode, encode
from xtoken_core.topk.make import make_records
from xtoken_core.topk.records import Records

__all__ = ["Codec", "CodecError", "Records", "codec_error", "decode", "encode", "make_records"]
