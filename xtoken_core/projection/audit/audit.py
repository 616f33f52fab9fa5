"""The audit: everything that can be said about a pair before any compute is spent on it."""

from dataclasses import dataclass

from xtoken_core.projection.audit.classes import token_classes
from xtoken_core.projection.audit.coverage import row_kinds
from xtoken_core.projection.audit.examples import ProjectionExample, Rows, examples_of
from xtoken_core.projection.audit.findings import Findings, find
from xtoken_core.projection.audit.flags import Flag, flags_of
from xtoken_core.projection.audit.recommendation import Recommendation, recommend
from xtoken_core.projection.audit.text_counts import TextCounts
from xtoken_core.projection.audit.weights import WeightHistogram, weight_histogram
from xtoken_core.projection.matrix import Projection
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True)
class ProjectionAudit:
    """Numbers, what stands out in them, and the loss to train with; neither side is named.

    examples: up to fifty rows, of all classes.
    """

    findings: Findings
    flags: tuple[Flag, ...]
    recommendation: Recommendation
    weights: WeightHistogram
    examples: tuple[ProjectionExample, ...]

    def stats(self) -> dict[str, int | float | str]:
        """The few numbers that a line in a table or log has room for."""
        rows = self.findings.rows
        return {
            "overlap": self.findings.overlap_bytes.shared,
            "overlap_share": self.findings.overlap_bytes.student_share,
            "rows_exact": rows.exact,
            "rows_paired": rows.paired,
            "rows_multi_token": rows.multi_token,
            "rows_other": rows.other,
            "rows_empty": rows.empty,
            "flags": len(self.flags),
            "loss": self.recommendation.loss,
        }


def audit(
    projection: Projection, student: Vocabulary, teacher: Vocabulary, counts: TextCounts | None = None
) -> ProjectionAudit:
    """Audits the projection from `student` to `teacher`; with `counts` of real text, by how often tokens are used."""
    findings = find(projection, student, teacher, counts)
    flags = flags_of(findings)
    occurrences = None if counts is None else counts.student_tokens
    rows = Rows(projection, token_classes(student), row_kinds(projection), occurrences)
    return ProjectionAudit(
        findings=findings,
        flags=flags,
        recommendation=recommend(findings, flags),
        weights=weight_histogram(projection),
        examples=examples_of(rows, student, teacher),
    )
