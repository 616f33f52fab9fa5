"""A projection audit on a terminal."""

from dataclasses import astuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.inspect.values import grid
from flows.report.audit import KIND_NAMES, headline, losses_to_come
from xtoken_core.projection.audit import ProjectionAudit
from xtoken_core.projection.audit.coverage import ClassCoverage
from xtoken_core.projection.audit.findings import Findings, TextFindings
from xtoken_core.projection.audit.flag import Flag, Severity, percent


def audit_tables(name: str, audit: ProjectionAudit) -> Group:
    """The recommendation, what stands out and the coverage, for the teacher `name`; the rest is on the page."""
    parts: list[RenderableType] = [Text(f"{name}: {headline(audit)}", "bold"), *_reasons(audit)]
    parts += [_flag(flag) for flag in audit.flags]
    return Group(*parts, "", _numbers(audit.findings), _coverage(audit.findings))


def _reasons(audit: ProjectionAudit) -> list[Text]:
    said = [f"- {reason}" for reason in audit.recommendation.reasons]
    said += [f"- Not {', '.join(one.losses)}: {one.reason}." for one in audit.recommendation.unsuitable]
    missing = losses_to_come(audit)
    return [Text(line) for line in [*said, *([f"- Not in this version yet: {', '.join(missing)}."] if missing else [])]]


def _flag(flag: Flag) -> Text:
    colour = "bold red" if flag.severity == Severity.WARNING else "bold cyan"
    return Text.assemble((f"{flag.severity}: ", colour), flag.message, " ", (flag.remedy, "dim"))


def _numbers(findings: Findings) -> RenderableType:
    by_bytes, raw = findings.overlap_bytes, findings.overlap_raw
    rows = [
        ["student's tokens that are the teacher's, by bytes", f"{by_bytes.shared:,}", percent(by_bytes.student_share)],
        ["the same by strings", f"{raw.shared:,}", percent(raw.student_share)],
        ["common tokens, special ones included", f"{findings.partition.common:,}", ""],
    ]
    return grid("overlap", ["", "tokens", "share"], rows + (_on_text(findings, findings.text) if findings.text else []))


def _on_text(findings: Findings, text: TextFindings) -> list[list[str]]:
    shares = findings.partition
    return [
        ["text in other student tokens", "", percent(shares.student_uncommon or 0.0)],
        ["text in other teacher tokens", "", percent(shares.teacher_uncommon or 0.0)],
        ["student tokens that prefix_kl reaches", "", percent(text.taught_share)],
        ["cell agreement of prefix_kl", "", percent(text.cell_agreement)],
    ]


def _coverage(findings: Findings) -> Table:
    columns = ["class", "tokens", *KIND_NAMES, *(["of the text"] if findings.text else [])]
    table = grid("coverage by class", columns, [_row(one, findings.text) for one in findings.classes])
    table.columns[0].no_wrap = True
    return table


def _row(one: ClassCoverage, text: TextFindings | None) -> list[object]:
    cells: list[object] = [str(one.token_class), one.tokens.total, *astuple(one.tokens)]
    if text is None or one.occurrences is None:
        return cells
    return [*cells, percent(one.occurrences.total / max(text.student_tokens, 1))]
