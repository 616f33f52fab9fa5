"""The command line: `xtoken COMMAND`. Every command checks its input before it starts anything heavy."""

import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.checks import BUILD_PROJECTION, CACHE_TEACHER, DISTILL, EVALUATE, PREPARE, Check, run_checks
from flows.config import RunConfig
from flows.config_files import load_config
from flows.environment import set_environment
from flows.errors import is_users_to_fix
from storage.errors import StorageError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
# Paths and values are printed as they are: rich would take [a, b] for markup.
out = Console(markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)
INTERRUPTED = 130  # what typer makes of Ctrl-C

ConfigPath = Annotated[Path, typer.Argument(help="a YAML file, e.g. configs/quickstart.yaml")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, e.g. training.steps=100 teachers.0.weight=0.5")]


def main() -> None:
    """Run the command line; errors that the user can mend become one message."""
    set_environment()
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:  # pressed again, while the flow was ending after the first time
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show"):  # click's own errors about the command line
            error.show()
            sys.exit(2)
        if not is_users_to_fix(error):
            raise
        err.print(Text.assemble(("error:", "bold red"), f" {error}"), highlight=False, soft_wrap=True)
        sys.exit(1)
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads finish the shards that they are at
        err.print("interrupted: nothing finished is lost, the same command goes on from here")
    if code:
        sys.exit(code)


@app.command("build-projection")
def build_projection_command(config: ConfigPath, overrides: Overrides = None) -> None:
    """Build the projection between the student's vocabulary and each teacher's, with an audit."""
    settings = _checked(config, overrides, BUILD_PROJECTION)
    from flows.build_projection import build_projection
    from flows.report.audit_tables import audit_tables
    from flows.stages.audits import read_audit

    projections = _run(build_projection, settings)
    for name, built in projections.by_teacher.items():
        out.print(audit_tables(name, read_audit(built.audit)))
        out.print(f"projection: {built.projection.folder}\naudit: {built.page}\n", soft_wrap=True)
    out.print(f"overlap of all tokenizers: {projections.overlap}", soft_wrap=True)


@app.command("overlap")
def overlap_command(
    tokenizers: Annotated[list[str], typer.Argument(help="folders or hub ids, two or more")],
    page: Annotated[Path | None, typer.Option(help="also write a page with a heat map to this file")] = None,
) -> None:
    """Show which share of its tokens each tokenizer has in common with each other one."""
    from flows.overlap import overlap_of, overlap_rows, write_overlap_page

    matrix = overlap_of(tokenizers)
    _print_table("share of the row's tokens, by their bytes", overlap_rows(matrix))
    if page is not None:
        write_overlap_page(page, matrix)
        out.print(f"page: {page}", soft_wrap=True)


@app.command("export-projection")
def export_projection_command(
    folder: Annotated[Path, typer.Argument(help="a projection's folder, as build-projection prints it")],
    file: Annotated[Path, typer.Argument(help="the .pt file to write")],
    student: Annotated[str | None, typer.Option(help="the student's hub id, to be written into the file")] = None,
    teacher: Annotated[str | None, typer.Option(help="the teacher's")] = None,
) -> None:
    """Write a projection in the form of NeMo-RL's x_token tools; `teachers.0.projection=FILE` takes one in."""
    from storage.nemo_projections import NemoProjection, write_nemo
    from storage.projections import read_projection

    write_nemo(file, NemoProjection(read_projection(folder), student, teacher))
    out.print(f"wrote {file}", soft_wrap=True)


@app.command("prepare")
def prepare_command(config: ConfigPath, overrides: Overrides = None) -> None:
    """Cut the corpus into windows, encode them for every model and align each teacher with the student."""
    settings = _checked(config, overrides, PREPARE)
    from flows.prepare import alignment_rows, prepare, stage_rows

    prepared = _run(prepare, settings)
    _print_table("alignment", alignment_rows(prepared))
    _print_table("stages", stage_rows(prepared))
    for teacher in prepared.teachers:
        out.print(f"{teacher.name}: {teacher.alignments.folder}", soft_wrap=True)
    if prepared.bad_rows:
        out.print(f"{prepared.bad_rows:,} rows of the corpus are no documents and were left out: the report says which")
    out.print(f"report: {prepared.report}", soft_wrap=True)


@app.command("cache-teacher")
def cache_teacher_command(config: ConfigPath, overrides: Overrides = None) -> None:
    """Run every teacher over the corpus once and keep its records."""
    settings = _checked(config, overrides, CACHE_TEACHER)
    from flows.cache_teacher import cache_rows, cache_teacher

    _print_table("caches", cache_rows(_run(cache_teacher, settings)))


@app.command("distill")
def distill_command(config: ConfigPath, overrides: Overrides = None) -> None:
    """The whole job: runs whatever is missing, then trains, evaluates and reports."""
    _distill(_checked(config, overrides, DISTILL))


@app.command("evaluate")
def evaluate_command(config: ConfigPath, overrides: Overrides = None) -> None:
    """Bits per byte, and task scores where asked for, of a checkpoint."""
    settings = _checked(config, overrides, EVALUATE)
    from flows.evaluate import evaluate, evaluation_rows

    _print_table("evaluation", evaluation_rows(_run(evaluate, settings)))


@app.command("quickstart")
def quickstart_command(overrides: Overrides = None) -> None:
    """Make the quickstart's inputs (once), then `distill configs/quickstart.yaml`."""
    from flows.defaults import QUICKSTART
    from flows.quickstart.inputs import ensure_inputs

    settings = load_config(QUICKSTART, overrides or ())
    ensure_inputs(say=err.print)
    run_checks(settings, DISTILL)
    _distill(settings)
    _print_next_steps(settings)


@app.command("inspect")
def inspect_command(
    path: Annotated[Path, typer.Argument(help="a run, artifact, shard, checkpoint or workspace")],
    window: Annotated[str | None, typer.Option(help="draw this window: its row, from 0, or its id")] = None,
) -> None:
    """Show what a folder or file of a workspace holds, and whether it is whole."""
    from flows.inspect import InspectError, inspect_path, show_window

    shown = inspect_path(path) if window is None else show_window(path, window)
    for part in shown.parts:
        out.print(part)
    if shown.damage:
        raise InspectError("\n".join(map(str, shown.damage)))


@app.command("up")
def up_command(
    port: Annotated[int | None, typer.Option(help="default: that of the server that runs, else 4200")] = None,
) -> None:
    """Start a local Prefect server, work pool and worker with the deployments applied."""
    from flows.server import state_folder, up

    with err.status("starting the Prefect server and worker, applying the deployments"):
        server = up(port)
    _make_quickstart_inputs()
    out.print(f"Prefect UI: {server.url}   (logs: {state_folder()})", soft_wrap=True)
    out.print(f"next:\n  export PREFECT_API_URL={server.api_url}", soft_wrap=True)
    out.print("  prefect deployment run build-projection/build-projection --watch")
    out.print("  prefect deployment run distill/distill --watch")


def _make_quickstart_inputs() -> None:
    """Make what the deployments run by default, where the worker looks for it; other configs do without."""
    from flows.quickstart.inputs import FOLDER, ensure_inputs
    from flows.quickstart.teacher import QuickstartError
    from flows.server import PROJECT

    try:
        ensure_inputs(PROJECT / FOLDER, say=err.print)
    except (QuickstartError, StorageError, OSError) as error:
        err.print(f"warning: the quickstart's inputs are not there: {error}", soft_wrap=True)
        err.print("the deployments run any other config; for the quickstart's run `xtoken up` again", soft_wrap=True)


@app.command("down")
def down_command() -> None:
    """Stop what `xtoken up` started."""
    from flows.server import down

    out.print("stopped the worker and the server" if down() else "nothing was running")


def _checked(path: Path, overrides: list[str] | None, checks: Iterable[Check]) -> RunConfig:
    config = load_config(path, overrides or ())
    run_checks(config, checks)
    return config


def _distill(config: RunConfig) -> None:
    from flows.distill import REPORT, distill
    from flows.trainings import run_folder

    summary = _run(distill, config)
    _print_table(f"held-out bits per byte, run {config.name}", summary.rows())
    _print_table("seconds by stage", [summary.seconds])
    out.print(f"report: {run_folder(config) / REPORT}", soft_wrap=True)


def _run(flow: Callable[[RunConfig], Any], config: RunConfig) -> Any:
    """Run a flow against the server in PREFECT_API_URL, else the one of `xtoken up`, else a temporary one."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.log_filter import filter_terminal
    from flows.server import require_answer, running_server
    from flows.temporary_server import start_temporary_server

    configured = PREFECT_API_URL.value()
    if configured:
        require_answer(configured)
    lasting = None if configured else running_server()
    filter_terminal(has_ui=bool(configured or lasting))
    if configured:
        return flow(config)
    with temporary_settings({PREFECT_API_URL: (lasting or start_temporary_server()).api_url}):
        return flow(config)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name)
    for row in rows:
        table.add_row(*(_show(value) for value in row.values()))
    out.print(table)


def _show(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _print_next_steps(config: RunConfig) -> None:
    folder = Path(config.workspace)
    out.print("look further:", highlight=False)
    for command in (
        f"xtoken inspect {folder}/runs/{config.name}",
        f"python -c \"import polars as pl; print(pl.scan_ipc('{folder}/alignments/*/*/shard-*.arrow')"
        ".select(pl.sum('n_chunks', 'n_exact', 'n_bytes', 'n_exact_bytes')).collect())\"",
        f"tensorboard --logdir {folder}/runs/{config.name}",
        "xtoken up    # Prefect server, worker and UI",
    ):
        out.print(f"  {command}", highlight=False, soft_wrap=True)
