"""``nibt serve``: the page, for people who would rather look than type."""

from typing import Annotated

import typer

from nibt.errors import BadOption


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A model that may be chosen beside the embedded ones; repeatable. It is loaded when "
            "somebody chooses it.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="The port.")] = 7860,
    host: Annotated[str, typer.Option(help="The address; without --public one of this machine alone.")] = "127.0.0.1",
    public: Annotated[bool, typer.Option("--public", help="Let other machines ask, where --host lets them.")] = False,
    timeout: Annotated[float, typer.Option(help="The most seconds of one computation.")] = 60.0,
    max_queue: Annotated[int, typer.Option(help="How many visitors may wait for their turn.")] = 20,
    max_upload_mb: Annotated[int, typer.Option(help="The most megabytes of an image's file.")] = 20,
    megapixels: Annotated[int, typer.Option(help="The most millions of pixels of an image.")] = 50,
) -> None:
    """Serve a page on which to explain images: click a word, see its region. Stop it with Ctrl-C.

    It answers this machine alone unless --public is given, sends nothing anywhere, and keeps nothing.
    """
    limited = {"timeout": timeout, "max-queue": max_queue, "max-upload-mb": max_upload_mb, "megapixels": megapixels}
    for name, value in limited.items():
        if not value > 0:  # nor nan
            raise BadOption(f"--{name} must be above 0 (got {value})")
    if not 1 <= port <= 65535:
        raise BadOption(f"--port must lie in 1..65535 (got {port})")
    from nibt.app.limits import Limits
    from nibt.app.server import PUBLIC, check_host, is_loopback
    from nibt.app.server import serve as run

    check_host(host, public)
    if not is_loopback(host):
        typer.echo(f"nibt: {PUBLIC}", err=True)
    limits = Limits(upload=max_upload_mb * 1_000_000, pixels=megapixels * 1_000_000, seconds=timeout, waiting=max_queue)
    run(host, port, model or (), limits, public, lambda address: typer.echo(f"nibt is at {address} (Ctrl-C stops it)"))
