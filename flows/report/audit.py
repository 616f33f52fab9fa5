"""The page of a projection audit."""

from typing import Any

from flows.report.pages import render
from flows.report.plots import counted_bars, inline_svg
from flows.report.tokens import shown_bytes, shown_text
from xtoken_core.projection import Rule

_ROWS = {
    "same bytes": "rows_exact",
    "split": "rows_multi_token",
    "special": "rows_special",
    "empty": "rows_empty",
}


def audit_html(audit: dict[str, Any], teacher_ids: int) -> str:
    """A self-contained page about the projection to a vocabulary of `teacher_ids` ids.

    `audit` is `dataclasses.asdict` of a `ProjectionAudit`. Neither side is named: the page belongs to the two
    vocabularies, whatever a config calls the models that have them.
    """
    counts = {label: int(audit[key]) for label, key in _ROWS.items()}
    plot = counted_bars(counts, "rows of the projection (student tokens)")
    return render(
        "audit.html",
        title="Projection audit",
        teacher_ids=teacher_ids,
        overlap=audit["overlap"],
        overlap_share=audit["overlap_share"],
        counts=counts,
        rows=sum(counts.values()),
        plot=inline_svg(plot, "Rows of the projection by the rule that made them"),
        examples=[_example(example) for example in audit["examples"]],
    )


def _example(example: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {
            "text": shown_text(entry["teacher_text"]),
            "weight": entry["weight"],
            "rule": Rule(entry["rule"]).name.lower().replace("_", " "),
        }
        for entry in example["entries"]
    ]
    spelled = example["student_bytes"]
    return {
        "text": shown_text(example["student_text"]),
        "bytes": shown_bytes(spelled) if spelled else "special token",
        "entries": entries,
    }
