"""``nibt serve``, which serves the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import typed_assignments
from nibt.cli.terminal import complain, say
from nibt.errors import BadOption
from nibt.options import Keywords, Positive, Range


@dataclass(frozen=True, kw_only=True)
class ServerOptions(OptionGroup, panel="Server"):
    """The address of the page."""

    port: Annotated[int, Range(1, 65535), Option(help="The port.")] = 7860
    host: Annotated[str, Option(help="The address; without --public, a loopback address.")] = "127.0.0.1"
    public: Annotated[bool, Option("--public", help="Allow connections from other machines, at --host.")] = False
    space: Annotated[
        Path | None,
        Option(metavar="DIR", help="Write a folder that runs the page as a Hugging Face Space. Default: none."),
    ] = None


_LIMITS = {
    "timeout": Positive,
    "max_queue": Annotated[int, Range(1, 1_000_000)],
    "max_upload_mb": Annotated[int, Range(1, 1_000_000)],
    "megapixels": Annotated[int, Range(1, 1_000_000)],
}


@dataclass(frozen=True, kw_only=True)
class LimitOptions(OptionGroup, panel="Limits"):
    """The limits of a request."""

    limit: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE",
            help="A limit: timeout of a computation in seconds (60), max_queue of requests (20), max_upload_mb of an "
            "image file (20), megapixels of an image (50); repeatable.",
        ),
    ] = None

    @property
    def limits(self) -> Keywords:
        """The fields of ``Limits`` that are set."""
        typed = typed_assignments(self.limit, "--limit", _LIMITS)
        for name, field in (("max_upload_mb", "max_upload_bytes"), ("megapixels", "max_pixels")):
            if name in typed:
                typed[field] = typed.pop(name) * 1_000_000
        return typed


@expand_groups
def serve(
    server: ServerOptions,
    limits: LimitOptions,
    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            "-m",
            help="A model or generator to choose from, in addition to the embedded ones; repeatable. It is loaded when "
            "chosen.",
        ),
    ] = None,
) -> None:
    """Serve a page that explains images interactively. Stop it with Ctrl-C.

    Without --public, only this machine can connect. The page sends no data to other servers, and stores no inputs
    permanently.
    """
    from nibt.app.limits import Limits
    from nibt.app.server import PUBLIC, check_host, is_loopback
    from nibt.app.server import serve as run

    if server.space is not None:
        if server != ServerOptions(space=server.space):
            raise BadOption("--space writes a folder and serves nothing: leave --host, --port and --public out")
        from nibt.app.server import write_space

        write_space(server.space, model or (), limits.limits)
        say(f"wrote {server.space}: its requirements need nibt on a package index, or a wheel beside them")
        return
    check_host(server.host, server.public)
    if not is_loopback(server.host):
        complain(PUBLIC)
    run(
        server.host,
        server.port,
        model or (),
        Limits(**limits.limits),
        server.public,
        on_ready=lambda address: say(f"nibt is running at {address} (Ctrl-C stops it)"),
    )


COMMANDS = (Command(12, serve, interrupted=""),)
