"""What a run's report shows, gathered from its artifacts."""

import json
from pathlib import Path

import yaml

from flows.build_projection import projection_rows
from flows.cache_teacher import cache_rows
from flows.config import RunConfig
from flows.prepare import alignment_rows
from flows.report.examples import aligned_examples, chunk_sizes
from flows.report.run import Curve, RunReport, Table, curve_figure, write_report
from flows.resolve import tokenizer_of
from flows.runs import RunData
from flows.summary import Summary, Training
from flows.trainings import READABLE
from storage.files import write_atomic
from trainer.run import read_metrics

EXAMPLES = 6
CURVES = "curves.png"


def write_run_report(path: Path, config: RunConfig, data: RunData, summary: Summary) -> None:
    """Write the page to `path` and the picture of the held-out curves beside it."""
    report = _report(config, data, summary)
    write_report(path, report)
    write_atomic(path.with_name(CURVES), curve_figure(report))


def _report(config: RunConfig, data: RunData, summary: Summary) -> RunReport:
    first = data.prepared.teachers[0].alignments
    student = tokenizer_of(config.student).vocabulary
    teacher = tokenizer_of(config.teachers[0]).vocabulary
    return RunReport(
        name=config.name,
        config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
        curves=tuple(_held_out(name, training) for name, training in summary.trainings.items()),
        losses=tuple(_cross_entropy(name, training) for name, training in summary.trainings.items()),
        teachers=summary.teacher_bits_per_byte,
        summary=json.loads(summary.model_dump_json(exclude_none=True)),
        tables=_tables(data, summary),
        examples=aligned_examples(first, student, teacher, EXAMPLES),
        chunk_sizes=chunk_sizes(first, student),
    )


def _held_out(name: str, training: Training) -> Curve:
    found = [(m.step, m.heldout_bits_per_byte) for m in read_metrics(training.folder)]
    points = [(step, value) for step, value in found if value is not None]
    return Curve(READABLE[name], tuple(step for step, _ in points), tuple(value for _, value in points))


def _cross_entropy(name: str, training: Training) -> Curve:
    points = [(m.step, m.ce) for m in read_metrics(training.folder) if m.ce is not None]
    return Curve(READABLE[name], tuple(step for step, _ in points), tuple(value for _, value in points))


def _tables(data: RunData, summary: Summary) -> tuple[Table, ...]:
    return (
        Table(
            "Alignment",
            "A chunk is the smallest run of student tokens and run of teacher tokens that cover the same bytes; "
            "it is exact where both spell the same.",
            alignment_rows(data.prepared),
        ),
        Table(
            "Projection",
            "What the rows of the student-to-teacher matrix are made of.",
            projection_rows(data.projections),
        ),
        Table(
            "Cache",
            "The teacher ran once. Stored mass is the share of its probability on stored tokens; the codec's error is "
            "the KL divergence in nats that rounding adds.",
            cache_rows(data.caches),
        ),
        Table("Seconds by stage", "Over all attempts of this run; what was reused took none.", [summary.seconds]),
    )
