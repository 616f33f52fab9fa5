"""A projection audit on a terminal."""

from collections.abc import Sequence
from dataclasses import astuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flows.inspect.values import grid
from flows.report.audit import KIND_NAMES, headline, in_config
from xtoken_core.projection.audit import ProjectionAudit
from xtoken_core.projection.audit.coverage import ClassCoverage
from xtoken_core.projection.audit.findings import Findings, TextFindings
from xtoken_core.projection.audit.flag import Flag, Severity, percent

_HEADERS = {"other rule": "other\nrule", "no row": "no\nrow"}  # with what else there is, in 80 columns
_LONGEST_WORD = len("three-digit")


def audit_tables(name: str, audit: ProjectionAudit) -> Group:
    """The recommendation, what stands out and the coverage, for the teacher `name`; the rest is on the page."""
    parts: list[RenderableType] = [Text(f"{name}: {headline(audit)}", "bold"), *_reasons(audit)]
    parts += [_flag(flag) for flag in audit.flags]
    return Group(*parts, "", _numbers(audit.findings), _coverage(audit.findings))


def _reasons(audit: ProjectionAudit) -> list[Text]:
    said = [f"- {reason}" for reason in audit.recommendation.reasons]
    said += [f"- Not {', '.join(one.losses)}: {one.reason}." for one in audit.recommendation.unsuitable]
    return [Text(line) for line in (*said, f"- {in_config(audit)}")]


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
    rows += _on_text(findings, findings.text) if findings.text else []
    return _unbroken(grid("overlap", ["", "tokens", "share"], rows))


def _on_text(findings: Findings, text: TextFindings) -> list[list[str]]:
    shares = findings.partition
    return [
        ["text in other student tokens", "", percent(shares.student_uncommon or 0.0)],
        ["text in other teacher tokens", "", percent(shares.teacher_uncommon or 0.0)],
        ["student tokens that prefix_kl reaches", "", percent(text.taught_share)],
        ["cell agreement of prefix_kl", "", percent(text.cell_agreement)],
    ]


def _coverage(findings: Findings) -> Table:
    """Kinds of rows that no class has are left out."""
    kinds = [place for place, count in enumerate(astuple(findings.rows)) if count]
    names = [_HEADERS.get(KIND_NAMES[place], KIND_NAMES[place]) for place in kinds]
    columns = ["class", "tokens", *names, *(["of the\ntext"] if findings.text else [])]
    return _unbroken(grid("coverage by class", columns, [_row(one, kinds, findings.text) for one in findings.classes]))


def _row(one: ClassCoverage, kinds: Sequence[int], text: TextFindings | None) -> list[object]:
    counts = astuple(one.tokens)
    cells: list[object] = [str(one.token_class), one.tokens.total, *(counts[place] for place in kinds)]
    if text is None or one.occurrences is None:
        return cells
    return [*cells, percent(one.occurrences.total / max(text.student_tokens, 1))]


def _unbroken(table: Table) -> Table:
    """With numbers and headers in one piece: where the terminal is narrow, the words of the first column are folded."""
    table.columns[0].min_width = _LONGEST_WORD
    for column in table.columns[1:]:
        column.no_wrap = True
    return table
