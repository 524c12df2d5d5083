"""The `switchback` command. Every command imports what it needs inside itself, so that `--help` stays instant."""

import errno
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from ci_tools import __version__
from ci_tools.actions import output
from ci_tools.console import machine_output, print_json, say
from ci_tools.errors import INTERRUPTED, PREEMPTED, ConfigError, DependencyUnavailable, SwitchbackError, explain
from ci_tools.harmless import in_log

try:
    import typer

    from ci_tools import cli_adopt, cli_github, cli_release, cli_schema
    from ci_tools.cli_answer import AsJson, show
except KeyboardInterrupt:  # Ctrl-C this early would end in a traceback
    sys.exit(INTERRUPTED)

app = typer.Typer(
    name="switchback",
    help="Model CI: reproduce a training run, compare it, release it by evidence.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_schema.app, name="schema")
app.add_typer(cli_release.app)
app.add_typer(cli_github.app)
app.add_typer(cli_adopt.app)

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        envvar="SWITCHBACK_SET",
        show_envvar=False,
        help="Change params.yaml first, e.g. train.steps=100. Repeatable.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run every stage from scratch, whatever the cache holds.")]
Base = Annotated[str, typer.Option(metavar="REF", help="Git revision to compare with, e.g. main.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"switchback {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def run(
    settings: Settings = None,
    force: Force = False,
    base: Base = "",
    rehearsal: Annotated[bool, typer.Option(help="Release the model on loopback, if no verdict stops it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Bring the pipeline up to date, judge it, rehearse the release.

    Where WANDB_API_KEY or WANDB_MODE is set, W&B follows in a process beside it. Exit codes as those of `gate`, then
    as those of `rehearse`.
    """
    from ci_tools.report.track.beside import tracking

    with tracking():
        _run(settings, force, base, rehearsal, as_json)


def _run(settings: list[str] | None, force: bool, base: str, rehearsal: bool, as_json: bool) -> None:
    from ci_tools.gates.suite import TESTS, begin, judge
    from ci_tools.report import files

    files.remove()
    begin()
    with machine_output(as_json):
        from ci_tools.pipeline import reproduce

        walk = reproduce(force=force, settings=settings or [])
    from ci_tools.report.terminal import show, summarize

    summary = summarize()
    if not as_json:
        show(summary)
        typer.echo(f"\n{walk}")
    with machine_output(as_json):
        verdicts = judge(base) if TESTS.is_dir() else None
        if verdicts is None:
            say(f"nothing was judged: no acceptance tests in {TESTS}")
    if verdicts and not as_json:
        typer.echo()
        _show_verdicts(verdicts)
    with machine_output(as_json):
        told, answer = _report_of_run() if verdicts else (None, "")
    if told and not as_json:
        typer.echo(f"{answer}report: {told}")
    with machine_output(as_json):
        rehearsed = _rehearsed() if rehearsal and verdicts and not verdicts.exit_code else None
    if as_json:
        parts = {"gates": verdicts.to_json() if verdicts else None, "report": told}
        parts |= {"rehearsal": rehearsed.to_json() if rehearsed else None}
        print_json({"pipeline": walk.to_json()} | summary.to_json() | parts)
    elif rehearsed:
        typer.echo(f"\n{rehearsed}")
    raise typer.Exit((verdicts and verdicts.exit_code) or (rehearsed.exit_code if rehearsed else 0))


@app.command()
def reproduce(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages to bring up to date; default: all.")] = None,
    settings: Settings = None,
    force: Force = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Take from the DVC remote what was computed elsewhere from the same inputs.")
    ] = False,
    verify_lock: Annotated[
        bool, typer.Option("--verify-lock", help="Say whether dvc.lock of HEAD is the one that this makes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the pipeline up to date.

    Says of each stage: cached, restored or ran, why, and how long it took. DVC_REMOTE_URL names another DVC remote.
    """
    with machine_output(as_json):
        from ci_tools.pipeline import reproduce

        walk = reproduce(targets or [], force, settings or [], pull=pull, verify_lock=verify_lock)
    show(walk, as_json)


@app.command()
def push(
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Gather it in a folder instead, for a job that may push.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Send what was gathered there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send what the pipeline made to the DVC remote.

    The run cache goes with it, so that any checkout with the same inputs finds it there. DVC_REMOTE_URL names another
    remote than the repository's.
    """
    if to and source:
        raise ConfigError("contradict each other", where="--to, --from", fix="leave one out")
    with machine_output(as_json):
        from ci_tools import storage
        from ci_tools.pipeline import open_repository

        if to:
            moved = storage.gather(open_repository(str(to.resolve())), to)
        else:
            moved = storage.push(open_repository(), source)
    show(moved, as_json)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A run record: path, REV:path, or a git revision.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    as_json: AsJson = False,
) -> None:
    """Find the first divergence of two run records. Exit 0: identical, 1: different."""
    from ci_tools.repro.compare import compare

    with TemporaryDirectory(prefix="switchback-") as folder:
        comparison = compare(_record(a, Path(folder, "a")), _record(b, Path(folder, "b")))
        _verdict(comparison, comparison.identical, as_json)


@app.command()
def replay(
    record: Annotated[str, typer.Argument(metavar="RUN", help="A run record: path, REV:path, or a git revision.")],
    segments: Annotated[int, typer.Option(min=1, help="Checkpoint-to-checkpoint segments to re-execute.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the choice of segments.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Re-execute random segments of a run.

    Compares them with the record bit by bit. Exit 0: confirmed, 1: not.
    """
    with TemporaryDirectory(prefix="switchback-") as folder, machine_output(as_json):
        from ci_tools.repro.replay import replay

        result = replay(_record(record, Path(folder)), segments, seed, say)
    _verdict(result, result.ok, as_json)


@app.command()
def calibrate(
    records: Annotated[
        list[Path] | None, typer.Argument(metavar="[RECORD]...", help="Clean runs to measure instead of training some.")
    ] = None,
    runs: Annotated[int, typer.Option(min=5, help="Clean runs to train, with seeds of their own.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Measure clean runs, from which the gates draw their limits.

    calibration.json holds each gate's statistic on runs of the current params: commit it.
    """
    with machine_output(as_json):
        from ci_tools.calibrate import calibrate

        result = calibrate(runs, records or [])
    _verdict(result, True, as_json)


@app.command()
def gate(
    base: Base = "",
    select: Annotated[str, typer.Option("-k", metavar="EXPR", help="Only tests that match, as in pytest.")] = "",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Judge no run; plant faults of every failure mode instead.")
    ] = False,
    policy: Annotated[
        str, typer.Option(metavar="REF", help="Git revision whose gates.yaml, calibration.json and tests judge.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Judge the run by the acceptance tests in tests/model.

    Writes gates/verdicts.json and gates/junit.xml; `switchback report` tells them. Exit 0: nothing stops a merge, 1: a
    failure does, 2: bad input or a test that could not run, 3: an inconclusive verdict does.
    """
    if self_test:
        from ci_tools.gates.selftest import in_force

        result = in_force()
        _verdict(result, result.ok, as_json)
        return
    with machine_output(as_json):
        from ci_tools.gates.suite import judge
        from ci_tools.report import files

        files.remove()  # it tells of other verdicts
        verdicts = judge(base, select, policy)
    if as_json:
        print_json(verdicts.to_json())
    else:
        _show_verdicts(verdicts)
        say("report: `switchback report` writes it of these verdicts")
    raise typer.Exit(verdicts.exit_code)


@app.command()
def report(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Render the comment from this results.json alone.")
    ] = None,
    links: Annotated[
        list[str] | None,
        typer.Option("--link", metavar="NAME=URL", help="wandb, wandb-report, html or artifacts. Repeatable."),
    ] = None,
    opened: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    post: Annotated[bool, typer.Option("--post", help="Comment on the pull request, once and for all pushes.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Set the outcome beside the commit, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell people: a comment, a step summary and a page.

    From the verdicts; writes report/. In GitHub Actions also the step summary and annotations; `--post` keeps one
    comment up to date.
    """
    if opened and source:
        raise ConfigError("there is no page to open", where="--open", rule="--from renders the comment only")
    with machine_output(as_json):
        from ci_tools.report import command
        from ci_tools.report.links import parse, tracked

        addresses = parse(links or [], tracked())
        public = post or status
        written = command.render(source, addresses, public, post) if source else command.write(addresses)
        url = command.publish(written, post, status) if public else ""
    if as_json:
        print_json(written.to_json() | {"url": url})
    else:
        typer.echo(f"report: {written.page or written.comment}")
    if opened and written.page:
        command.show(written.page)


@app.command()
def track(
    records: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run records: paths, REV:path, or git revisions.")
    ],
    to: Annotated[
        Literal["wandb", "tensorboard", "prometheus"], typer.Option(help="Who is told.", show_default=True)
    ] = "wandb",
    live: Annotated[bool, typer.Option("--live", help="Follow a run that is under way to its end.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For tensorboard and prometheus; default: report/NAME.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 4 where W&B did not take everything.")] = False,
    seconds: Annotated[float, typer.Option(min=1.0, help="That W&B has to answer, at either end of a run.")] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Tell W&B, TensorBoard or Prometheus of runs.

    Every step, histograms, verdicts, artifacts; told again, a run gains nothing twice. Without a key or an answer, data
    for W&B is kept in wandb/ for `wandb sync`, and the exit code is 0.
    """
    if out is not None and to == "wandb":
        raise ConfigError(
            "--out is for other trackers", rule="W&B's client keeps data in wandb/", fix="add --to TRACKER"
        )
    with TemporaryDirectory(prefix="switchback-") as folder, machine_output(as_json):
        from ci_tools.report.track import command

        paths = [Path(name) if live else _record(name, Path(folder, str(i))) for i, name in enumerate(records)]
        wait = command.WAIT if live else 0.0
        if to == "wandb":
            told = command.track(paths, live=live, wait=wait, seconds=seconds)
        else:
            told = command.export(to, paths, out or Path("report", to), live=live, wait=wait)
    show(told, as_json)
    for warning in told.warnings:
        say(f"warning: {warning}")
    if strict and told.warnings:
        raise typer.Exit(DependencyUnavailable.exit_code)


@app.command()
def diagnose(
    record: Annotated[str, typer.Argument(metavar="RUN", help="A run record: path, REV:path, or a git revision.")],
    step: Annotated[int | None, typer.Option(min=0, help="Where the trouble began; default: the record tells.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find out why a run diverged.

    Rewinds to before the onset and runs on with one change at a time; the change that clears the symptom names the
    cause. Exit 0: a cause is named, 3: none.
    """
    with TemporaryDirectory(prefix="switchback-") as folder, machine_output(as_json):
        from ci_tools.repro.counterfactual import diagnose

        found = diagnose(_record(record, Path(folder)), say, step)
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(found.render())
    if not found.cause:
        raise typer.Exit(3)


@app.command(hidden=True)
def fingerprint(
    threads_key: Annotated[str, typer.Option(help="Key of params.yaml: CPU threads that training will use.")],
    input_key: Annotated[str, typer.Option(help="Key of params.yaml: file that the data stage reads, if any.")] = "",
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("fingerprint"),
) -> None:
    """Write down the machine and the input file, for the stages that depend on them."""
    from ci_tools.experiment import value, write_fingerprint

    # Keys, not values: free text of params.yaml must never be part of a shell command.
    write_fingerprint(value(threads_key), value(input_key) if input_key else "", out)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has and lacks, with the fix for each."""
    from ci_tools.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        typer.echo("\n".join(map(str, findings)))
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(DependencyUnavailable.exit_code)


def main() -> None:
    """Run the command line; a failure is one line on stderr and, with `--json`, one object on stdout."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            say("interrupted; run the same command again to go on from here")
        raise
    except SwitchbackError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        if (error.name or "ci_tools").partition(".")[0] in ("ci_tools", "model"):
            raise
        _fail(explain(error))
    except OSError as error:
        if error.errno in (None, errno.EPIPE):
            raise
        _fail(explain(error))


def _fail(error: SwitchbackError) -> None:
    if error.exit_code == PREEMPTED:
        output("preempted", True)  # what was not finished is not to be judged
    sys.stderr.write(f"error: {in_log(str(error))}\n")
    if "--json" in sys.argv:
        print_json({"error": {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}})
    sys.exit(error.exit_code)


def _record(name: str, folder: Path) -> Path:
    """A path needs no DVC; anything else is looked up in git."""
    if Path(name).exists():
        return Path(name)
    from ci_tools.revisions import resolve

    folder.mkdir(exist_ok=True)
    return resolve(name, folder)


def _verdict(result: Any, passed: bool, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(result.render())
    if not passed:
        raise typer.Exit(1)


def _report_of_run() -> tuple[str | None, str]:
    """Write the report of the run that was just judged.

    The verdicts' exit code stands, whatever of the report cannot be written.

    Returns:
        The path of the page, or else of the comment, None where nothing could be written; and the answer, with a line
        break, where the report is whole.
    """
    from ci_tools.report.command import write
    from ci_tools.report.comment import answered
    from ci_tools.report.files import COMMENT, FOLDER

    try:
        report = write()
        return str(report.page), f"{answered(report.results).words}\n"
    except ModuleNotFoundError as error:
        say(f"the report lacks its page: {explain(error)}")
    except SwitchbackError as error:
        say(f"the report is not whole: {error}")
    except OSError as error:
        say(f"the report is not whole: {explain(error)}")
    return (str(FOLDER / COMMENT) if (FOLDER / COMMENT).is_file() else None), ""


def _rehearsed() -> Any:
    """The rehearsal, or None where this machine or this model cannot hold one; the verdicts stand all the same."""
    try:
        from ci_tools.release.rehearsal import rehearse_unless_known

        return rehearse_unless_known(say)
    except ModuleNotFoundError as error:
        say(f"the release was not rehearsed: {explain(error)}")
    except SwitchbackError as error:
        say(f"the release was not rehearsed: {error}")
    except OSError as error:
        say(f"the release was not rehearsed: {explain(error)}")
    return None


def _show_verdicts(verdicts: Any) -> None:
    from ci_tools.gates.show import show

    show(verdicts)
