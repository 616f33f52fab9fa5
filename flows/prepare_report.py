"""The report of a preparation: a page and tables for polars, in `workspace/reports/NAME/FINGERPRINT/`.

It is an artifact like any other: made again only where what it shows has changed, and another config of the same name
does not overwrite it.
"""

import logging
from typing import TYPE_CHECKING, Any

import polars as pl

from flows.config import RunConfig
from flows.corpus import corpus_of
from flows.report.examples import aligned_examples, inexact_examples
from flows.report.packing import Packing, packing_of
from flows.report.prepare import LeftOut, PrepareReport, TeacherExamples, prepare_html
from flows.report.prepare_counts import Counts, Model, Pair, Preparation, count
from flows.report.prepare_tables import by_model, tables
from flows.resolve import tokenizer_of
from storage.artifact import Artifact, ArtifactSpec, ArtifactWriter
from storage.lock import artifact_lock
from storage.screening import read_findings
from storage.windows import readings
from storage.workspace import Workspace

if TYPE_CHECKING:  # flows.prepare calls this module
    from flows.prepare import Prepared

logger = logging.getLogger(__name__)

KIND = "report"
ALGORITHM_VERSION = 2
PAGE = "prepare.html"
_INEXACT, _TYPICAL = 6, 3  # examples of each teacher
_SEARCHED = 24  # windows that the typical ones are chosen from
_BATCHES = (16, 64, 256)


def build_prepare_report(config: RunConfig, prepared: "Prepared") -> Artifact:
    """Count what was prepared and write the page, if it is not there."""
    spec = ArtifactSpec(KIND, ALGORITHM_VERSION, _inputs(config, prepared))
    writer = ArtifactWriter(Workspace(config.workspace).report(spec, config.name), spec)
    with artifact_lock(writer.folder):
        artifact = writer.complete()
        if artifact is None:
            artifact = _write(writer, config, prepared)
    logger.info("report: %s", artifact.path(PAGE))
    return artifact


def _inputs(config: RunConfig, prepared: "Prepared") -> dict[str, Any]:
    return {
        "name": config.name,
        "windows": prepared.windows.manifest.fingerprint,
        "student": [prepared.student_tokens.manifest.fingerprint, config.student.max_length],
        "teachers": [
            [teacher.name, teacher.tokens.manifest.fingerprint, teacher.alignments.manifest.fingerprint, one.max_length]
            for teacher, one in zip(prepared.teachers, config.teachers, strict=True)
        ],
        "steps": [config.training.batch_windows, config.training.micro_batch_windows],
        "screening": prepared.screening.manifest.fingerprint if prepared.screening else None,
    }


def _write(writer: ArtifactWriter, config: RunConfig, prepared: "Prepared") -> Artifact:
    preparation = _preparation(config, prepared)
    counts = count(preparation)
    report = PrepareReport(
        config=config.name,
        windows=prepared.windows.rows,
        readings=tuple(readings(prepared.windows)),
        counts=counts,
        left_out=_left_out(config, preparation, counts),
        examples=_examples(config, preparation, counts),
        packing=_packing(config, preparation),
        screening=read_findings(prepared.screening) if prepared.screening else None,
    )
    key = writer.spec.fingerprint
    entries = [writer.write_table(name, key, table) for name, table in tables(counts).items()]
    return writer.finish([writer.write_bytes(PAGE, key, prepare_html(report).encode()), *entries])


def _preparation(config: RunConfig, prepared: "Prepared") -> Preparation:
    pairs = tuple(
        Pair(made.name, Model(f"teacher {made.name}", made.tokens, teacher.max_length), made.alignments)
        for made, teacher in zip(prepared.teachers, config.teachers, strict=True)
    )
    student = Model("student", prepared.student_tokens, config.student.max_length)
    return Preparation(prepared.windows, student, tokenizer_of(config.student).vocabulary, pairs)


def _left_out(config: RunConfig, preparation: Preparation, counts: Counts) -> tuple[LeftOut, ...]:
    everything = {part.name for part in corpus_of(config).parts}
    sources = [
        everything,
        *({p.name for p in corpus_of(config).parts if p.is_read_by(t.name)} for t in config.teachers),
    ]
    return tuple(
        _model_left_out(model, by_model(counts, "model", "source").filter(pl.col("model") == model.name), own)
        for model, own in zip(preparation.models, sources, strict=True)
    )


def _model_left_out(model: Model, sums: pl.DataFrame, sources: set[str]) -> LeftOut:
    refused, rewritten = (int(model.tokens.manifest.total(name)) for name in ("refused", "rewritten"))
    unread = int(sums.filter(~pl.col("source").is_in(list(sources)))["without_tokens"].sum())
    dropped = int(sums["without_tokens"].sum()) - unread - refused
    return LeftOut(model.name, model.max_length, int(sums["too_long"].sum()), unread, dropped, refused, rewritten)


def _examples(config: RunConfig, preparation: Preparation, counts: Counts) -> dict[str, TeacherExamples]:
    student, found = preparation.student_vocabulary, {}
    for pair, teacher in zip(preparation.pairs, config.teachers, strict=True):
        vocabularies = student, tokenizer_of(teacher).vocabulary
        worst = counts.pairs[pair.name].worst.head(_INEXACT)
        places = list(zip(worst["shard"].to_list(), worst["row"].to_list(), strict=True))
        inexact = inexact_examples(pair.alignments, places, *vocabularies)
        typical = aligned_examples(pair.alignments, *vocabularies, _TYPICAL, _SEARCHED)
        found[pair.name] = TeacherExamples(pair.alignments.folder, inexact, typical)
    return found


def _packing(config: RunConfig, preparation: Preparation) -> tuple[Packing, ...]:
    batches = tuple(sorted({*_BATCHES, config.training.batch_windows}))
    plans = (preparation.models[:1], preparation.models)
    return tuple(one for models in plans for one in packing_of(models, batches, config.training.micro_batch_windows))
