"""Whether a source of the corpus has any document: where it has none, its column is not what the config says."""

from collections import Counter
from collections.abc import Sequence

from flows.corpus.files import SourceFile
from flows.corpus.formats import format_of
from flows.corpus_config import CorpusConfig
from flows.errors import CorpusError
from storage.windows import Reading


def require_documents(corpus: CorpusConfig, files: Sequence[SourceFile], found: Sequence[Reading]) -> None:
    """Make sure that each source has a document; `found` is what each of `files` gave.

    Raises:
        CorpusError: naming the source, what its rows are instead, the columns that its first file has and the remedy.
    """
    for source in corpus.parts:
        own = [(file, reading) for file, reading in zip(files, found, strict=True) if file.source.name == source.name]
        if not any(reading.documents for _, reading in own):
            raise CorpusError(_without_documents(corpus.key_of(source), own))


def _without_documents(key: str, own: Sequence[tuple[SourceFile, Reading]]) -> str:
    """The message for a source whose files gave nothing."""
    first = own[0][0]
    reasons: Counter[str] = Counter()
    for _, reading in own:
        reasons.update({"empty": reading.empty, **reading.bad_rows})
    counts = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items() if count)
    examples = [f"{reading.file}: {example}" for _, reading in own for example in reading.examples[:1]]
    example = f" ({examples[0]})" if examples else ""
    columns = format_of(first).columns(first)
    remedy = f"set {key}.text_column or {key}.messages_column, {first.name} has {columns}" if columns else "check them"
    return f"{key}: no row of {_named(own)} holds a text or chat: {counts or 'no rows'}{example}; {remedy}"


def _named(own: Sequence[tuple[SourceFile, Reading]]) -> str:
    return own[0][0].url if len(own) == 1 else f"{len(own)} files, from {own[0][0].url} on,"
