"""`python -m benchmarks NAME`."""

import os
from pathlib import Path
from typing import Literal

import typer

from flows.environment import set_environment

set_environment()
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("quickstart")
def quickstart() -> None:
    """The time of each stage of the quickstart, in a fresh workspace."""
    from benchmarks.quickstart import run

    run()


@app.command("quickstart-settings")
def quickstart_settings(steps: int = 0, seeds: int = 3) -> None:
    """Cross-entropy and distillation at three learning rates and several seeds: how the quickstart was set. Hours."""
    from benchmarks.quickstart_settings import run

    run(steps or None, seeds)


@app.command("align")
def align() -> None:
    """Aligning equal and differing texts: tokens a second, and how much faster than a plain Python aligner."""
    from benchmarks.align import run

    run()


@app.command("prepare")
def prepare(megabytes: int = 120, student: str | None = None, teacher: str | None = None) -> None:
    """Read, cut, tokenize twice, align and write, against the two tokenizations alone. Minutes."""
    from benchmarks.prepare import run

    run(megabytes, student, teacher)


@app.command("projection")
def projection(
    student: str | None = None,
    teacher: str | None = None,
    golden: str | None = None,
) -> None:
    """Build, write and load the projection of a 128k and a 152k vocabulary; compare it with a recorded one."""
    from benchmarks.projection import run

    run(student, teacher, golden)


@app.command("projection-weights")
def projection_weights(
    megabytes: int = 20, student: str | None = None, teacher: str | None = None, embeddings: str | None = None
) -> None:
    """Which weights of the projection's rules predict the teacher's next token best. Minutes."""
    from benchmarks.projection_weights import run

    run(megabytes, student, teacher, embeddings)


@app.command("losses")
def losses(
    losses: str | None = None, positions: int | None = None, student: str | None = None, teacher: str | None = None
) -> None:
    """Time and memory of the fast losses (some, by names with commas) against their reference forms. Many minutes."""
    from benchmarks.losses import run

    run(losses.split(",") if losses else None, positions, student, teacher)


@app.command("golden")
def golden(folder: Path, impl: Literal["fast", "reference"] = "fast") -> None:
    """Recorded values of losses, every case in a folder, against ours. `--impl` is the form of ours."""
    from benchmarks.golden import run
    from benchmarks.golden_scenarios import GoldenError

    try:
        run(folder, impl)
    except GoldenError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command("prefix-study")
def prefix_study() -> None:
    """How far from the truth each loss leads a student of a toy language where the truth is known. Minutes."""
    from benchmarks.prefix_study import run

    run()


if __name__ == "__main__":
    app()
