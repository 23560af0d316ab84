"""``nibt serve``, which serves the page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from nibt.cli.command import Command
from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.options import PlacementOptions, ServerOptions, typed_assignments
from nibt.cli.terminal import complain, say
from nibt.errors import BadOption
from nibt.options import Keywords, Positive, Range

if TYPE_CHECKING:
    from nibt.generators.answers import Generator


@dataclass(frozen=True, kw_only=True)
class PageOptions(OptionGroup, panel="Page"):
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
    page: PageOptions,
    limits: LimitOptions,
    server: ServerOptions,
    model: Annotated[
        list[str] | None,
        Option(
            "--model",
            "-m",
            help="A model or generator to choose from, in addition to the embedded ones; repeatable. It is loaded when "
            "chosen. With --server, the name of a generator on that server.",
        ),
    ] = None,
    load: Annotated[
        list[str] | None,
        Option(
            "--load",
            metavar="NAME=VALUE",
            help="With --server, an option of asking it: image_size, cells, sources, top, way, draws, at_once, "
            "timeout, tries.",
        ),
    ] = None,
) -> None:
    """Serve a page that explains images interactively. Stop it with Ctrl-C.

    Without --public, only this machine can connect. The page sends no data to other servers, but to that of --server,
    and stores no inputs permanently.
    """
    from nibt.app.limits import Limits
    from nibt.app.server import PUBLIC, check_host, is_loopback
    from nibt.app.server import serve as run

    if server.server is None and load:
        raise BadOption("--load is for a generator behind a server: give its address with --server")
    if page.space is not None:
        if page != PageOptions(space=page.space):
            raise BadOption("--space writes a folder and serves nothing: leave --host, --port and --public out")
        if server.server is not None:
            raise BadOption("--space writes a page that asks no other server: leave --server out")

        from nibt.app.server import write_space

        write_space(page.space, model or (), limits.limits)
        say(f"wrote {page.space}: its requirements need nibt on a package index, or a wheel beside them")
        return

    check_host(page.host, page.public)
    served = [] if server.server is None else _served(server, model or [], load)
    if not is_loopback(page.host):
        complain(PUBLIC)
    run(
        page.host,
        page.port,
        (model or ()) if server.server is None else (),
        Limits(**limits.limits),
        page.public,
        on_ready=lambda address: say(f"nibt is running at {address} (Ctrl-C stops it)"),
        served=served,
    )


def _served(server: ServerOptions, names: list[str], load: list[str] | None) -> "list[Generator]":
    """Return the generators of these names on a server."""
    assert server.server is not None
    if not names:
        raise BadOption("the name of the generator on the server is missing: give it with -m")

    from nibt.generators.loading import load_generator

    options = [server.asking(server.server, name, PlacementOptions(), load) for name in names]
    return [load_generator(server.server, **each) for each in options]


COMMANDS = (Command(12, serve, interrupted=""),)
