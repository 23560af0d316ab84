"""The page on a port of this machine: what is loaded, where uploads lie, who may ask."""

import ipaddress
import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nibt.app.guard import Guard
from nibt.app.limits import Limits
from nibt.errors import BadOption, Unsupported

READY = ("lite", "scenes")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PUBLIC = (
    "Anybody who reaches this port can use this page and this machine's time; there is no password and no encryption. "
    "Put a server that has both in front of it."
)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    models: Sequence[str] = (),
    limits: Limits | None = None,
    public: bool = False,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until it is stopped (Ctrl-C).

    ``models`` may be chosen beside the embedded ones, and are loaded when somebody does. Uploads lie in a folder of
    their own, which is gone when the page is. Without ``public`` only this machine can ask.

    Raises:
        BadOption: The host is not this machine alone, and ``public`` is not asked for; or the port is taken.
        Unsupported: Gradio is not installed.
        CannotLoad: An embedded model cannot be loaded.

    """
    check_host(host, public)
    listening = bound(host, port)
    limits = limits or Limits()
    with listening, tempfile.TemporaryDirectory(prefix="nibt-serve-") as folder:
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        try:
            import uvicorn

            from nibt.app.ui import page
        except ImportError as error:
            raise Unsupported("the page needs gradio: pip install 'nibt[app]'") from error
        from nibt.app.models import ModelCache

        # what it warns of is the view's data, which is no script and is not meant to run
        warnings.filterwarnings("ignore", "A `<script>` tag was found")
        shelf = ModelCache(READY, models)
        app = Guard(page(shelf, limits), Path(folder), limits.upload, hosts=() if public else LOOPBACK)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            ws="none",
            server_header=False,
            timeout_keep_alive=30,
        )
        server = uvicorn.Server(config)
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        with suppress(KeyboardInterrupt):  # the server sends on what stopped it; the folder must go first
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            server.run(sockets=[listening])


def check_host(host: str, public: bool) -> None:
    """Refuse to be reached from elsewhere by mistake.

    Raises:
        BadOption: The host is not this machine alone, and ``public`` is not asked for.

    """
    if not public and not is_loopback(host):
        raise BadOption(
            f"the host {host!r} can be reached from other machines: add --public if that is meant. {PUBLIC}"
        )


def bound(host: str, port: int) -> socket.socket:
    """A socket on that port, before anything is loaded.

    Raises:
        BadOption: The port is taken, or this machine has no such address.

    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise BadOption(
            f"cannot listen on port {port} of {host!r} ({error.strerror or error}): choose another with "
            "--port, or another --host"
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
    (True, True, False)

    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
