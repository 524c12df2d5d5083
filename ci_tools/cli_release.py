"""The commands of `switchback` that release a model. Each imports what it needs inside itself, as in cli.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ci_tools.cli_answer import AsJson, show
from ci_tools.console import machine_output
from ci_tools.release.home import DEFAULT

if TYPE_CHECKING:
    from ci_tools.release.client import Address

app = typer.Typer()

HomeOption = Annotated[Path, typer.Option("--home", metavar="FOLDER", help="Files of the release service.")]
Url = Annotated[str, typer.Option(metavar="URL", help="Ask a service by HTTP instead, with SWITCHBACK_TOKEN.")]
Reason = Annotated[str, typer.Option(help="Why; the ledger keeps it.")]
Actor = Annotated[str, typer.Option(metavar="NAME", help="Who; default: GITHUB_ACTOR, or git's user.name.")]
PublicKeys = Annotated[
    list[Path] | None, typer.Option("--public-key", metavar="PEM", help="Whose signature counts. Repeatable.")
]
Identity = Annotated[str, typer.Option(metavar="URI", help="Sigstore identity instead of a key, e.g. a workflow's.")]
Issuer = Annotated[str, typer.Option(metavar="URL", help="Who vouches for --identity; default: GitHub Actions.")]
TrustConfig = Annotated[Path | None, typer.Option(metavar="FILE", help="Sigstore's own keys and addresses.")]


@app.command()
def bundle(
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Of bundles; default: bundles.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Private key; default: your own, made once.")] = None,
    identity: Identity = "",
    trust_config: TrustConfig = None,
    override: Annotated[str, typer.Option(metavar="GATES", help="Blocking gates that may pass, a,b,…")] = "",
    by: Annotated[str, typer.Option(metavar="NAME", help="Who lets them pass.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    decision: Annotated[str, typer.Option(metavar="OUTPUT>=NUMBER", help="Where the model does not say it.")] = "",
    name: Annotated[str, typer.Option(help="Of the model; default: the repository's.")] = "",
    as_json: AsJson = False,
) -> None:
    """Pack and sign the model that was judged.

    Refuses while a verdict blocks, unless somebody takes it upon himself with --override, --by and --reason; the bundle
    keeps that.
    """
    with machine_output(as_json):
        from ci_tools.release.bundle import command

        done = command.bundle(out, key, identity, trust_config, override, by, reason, decision, name)
    show(done, as_json)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Its folder.")],
    public_keys: PublicKeys = None,
    identity: Identity = "",
    issuer: Issuer = "",
    trust_config: TrustConfig = None,
    as_json: AsJson = False,
) -> None:
    """Check a bundle: its signature and every byte of it."""
    with machine_output(as_json):
        from ci_tools.release.bundle import command

        done = command.verify(path, tuple(public_keys or ()), identity, issuer, trust_config)
    show(done, as_json)


@app.command()
def release(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Its folder, or the digest of a known one, or its beginning.")
    ],
    home: HomeOption = DEFAULT,
    url: Url = "",
    actor: Actor = "",
    again: Annotated[bool, typer.Option("--again", help="Begin anew where this bundle was just rolled back.")] = False,
    public_keys: PublicKeys = None,
    identity: Identity = "",
    issuer: Issuer = "",
    trust_config: TrustConfig = None,
    as_json: AsJson = False,
) -> None:
    """Ask the service for a canary and follow it to its verdict.

    Exit 0: promoted, 1: rolled back, 3: inconclusive, 4: the service does not answer. The release goes on without this
    command; the same command once more joins it, or tells how it ended.
    """
    with machine_output(as_json):
        from ci_tools.release.bundle import trust
        from ci_tools.release.client import release

        trusted = trust.named(tuple(public_keys or ()), identity, issuer, trust_config)
        done = release(bundle, _address(home, url), trust=trusted, actor=actor, again=again)
    show(done, as_json)


@app.command()
def status(
    home: HomeOption = DEFAULT,
    url: Url = "",
    verify: Annotated[bool, typer.Option("--verify", help="Check every event of the ledger, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is going on: champion, release, evidence, servers.

    With --verify: whether every event of the ledger fits the one before.
    """
    with machine_output(as_json):
        from ci_tools.release.client import status

        done = status(_address(home, url), verify=verify)
    show(done, as_json)


@app.command()
def rollback(
    reason: Reason, home: HomeOption = DEFAULT, url: Url = "", actor: Actor = "", as_json: AsJson = False
) -> None:
    """Send all traffic to the champion, at once.

    While a promotion is watched: to the champion before it.
    """
    _order("rollback", reason, home, url, actor, as_json)


@app.command()
def pause(
    reason: Reason, home: HomeOption = DEFAULT, url: Url = "", actor: Actor = "", as_json: AsJson = False
) -> None:
    """Keep the canary's weight as it is and promote nothing.

    Harm still rolls back.
    """
    _order("pause", reason, home, url, actor, as_json)


@app.command()
def resume(
    reason: Reason, home: HomeOption = DEFAULT, url: Url = "", actor: Actor = "", as_json: AsJson = False
) -> None:
    """Go on after a pause."""
    _order("resume", reason, home, url, actor, as_json)


@app.command()
def promote(
    reason: Reason, home: HomeOption = DEFAULT, url: Url = "", actor: Actor = "", as_json: AsJson = False
) -> None:
    """Make the canary champion without waiting for evidence."""
    _order("promote", reason, home, url, actor, as_json)


@app.command()
def serve(
    home: HomeOption = DEFAULT,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where clients send requests; 0: any free one.")] = 8000,
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Control API and status page by HTTP on loopback; 0: socket only.")
    ] = 0,
    api_hosts: Annotated[
        list[str] | None, typer.Option("--api-host", metavar="NAME", help="By which a proxy passes on. Repeatable.")
    ] = None,
    policy: Annotated[Path, typer.Option(metavar="YAML", help="What a release may cost.")] = Path("release.yaml"),
    public_keys: PublicKeys = None,
    identity: Identity = "",
    issuer: Issuer = "",
    trust_config: TrustConfig = None,
    address: Annotated[
        str, typer.Option(metavar="IP", help="Where clients are served; default: this machine only.")
    ] = "127.0.0.1",
    memory_mb: Annotated[int, typer.Option(min=1, help="Memory of a model server at most, in MB.")] = 8192,
    controller_settings: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Patience of the controller.", hidden=True)
    ] = None,
) -> None:
    """Run the release service.

    Model servers behind Envoy, judge, ledger, status page. Ends on SIGTERM or Ctrl-C, and leaves no process behind.
    """
    from ci_tools.release.serve import serve

    serve(
        home,
        port,
        api_port=api_port,
        api_hosts=tuple(api_hosts or ()),
        rules=policy,
        public_keys=tuple(public_keys or ()),
        controller_settings=controller_settings,
        identity=identity,
        issuer=issuer,
        trust_config=trust_config,
        address=address,
        memory_mb=memory_mb,
    )


@app.command()
def rehearse(as_json: AsJson = False) -> None:
    """Release the model on loopback, and a spoiled copy of it.

    The one must be promoted, the other rolled back. Exit 1 where it ends otherwise.
    """
    with machine_output(as_json):
        from ci_tools.release.rehearsal import rehearse

        done = rehearse()
    show(done, as_json)


def _order(
    name: Literal["pause", "resume", "rollback", "promote"],
    reason: str,
    home: Path,
    url: str,
    actor: str,
    as_json: bool,
) -> None:
    with machine_output(as_json):
        from ci_tools.release.client import order

        done = order(name, _address(home, url), reason=reason, actor=actor)
    show(done, as_json)


def _address(home: Path, url: str) -> "Address":
    from ci_tools.release.client import Address
    from ci_tools.release.home import Home

    return Address(home=Home(home), url=url)
