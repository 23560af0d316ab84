"""``nibt serve``: the page."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer import Option

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.errors import BadOption


@dataclass(frozen=True, kw_only=True)
class ServerOptions(OptionGroup, panel="Server"):
    """Where the page is served."""

    port: Annotated[int, Option(help="The port.")] = 7860
    host: Annotated[str, Option(help="The address; without --public, one of this machine.")] = "127.0.0.1"
    public: Annotated[bool, Option("--public", help="Let other machines connect, as --host allows.")] = False

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadOption(f"port must be between 1 and 65535 (got {self.port})")


@dataclass(frozen=True, kw_only=True)
class LimitOptions(OptionGroup, panel="Limits"):
    """What one visitor may use."""

    timeout: Annotated[float, Option(help="The longest time of one computation, in seconds.")] = 60.0
    max_queue: Annotated[int, Option(help="The number of visitors who may wait for their turn.")] = 20
    max_upload_mb: Annotated[int, Option(help="The largest image file, in megabytes.")] = 20
    megapixels: Annotated[int, Option(help="The largest image, in millions of pixels.")] = 50

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:  # nor nan
                raise BadOption(f"{name} must be above 0 (got {value})")


@expand_groups
def serve(
    server: ServerOptions,
    limits: LimitOptions,
    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            "-m",
            help="A model that may be chosen beside the embedded ones; repeatable. It is loaded when it is chosen.",
        ),
    ] = None,
) -> None:
    """Serve a page on which to explain images: click a word, see its region. Stop it with Ctrl-C.

    It answers this machine alone unless --public is given, sends nothing anywhere, and keeps nothing.
    """
    from nibt.app.limits import Limits
    from nibt.app.server import PUBLIC, check_host, is_loopback
    from nibt.app.server import serve as run

    check_host(server.host, server.public)
    if not is_loopback(server.host):
        typer.echo(f"nibt: {PUBLIC}", err=True)
    run(
        server.host,
        server.port,
        model or (),
        Limits(
            upload=limits.max_upload_mb * 1_000_000,
            pixels=limits.megapixels * 1_000_000,
            seconds=limits.timeout,
            waiting=limits.max_queue,
        ),
        server.public,
        lambda address: typer.echo(f"nibt is at {address} (Ctrl-C stops it)"),
    )
