"""The server of the page."""

import ipaddress
import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nibt.app.guard import Guard
from nibt.app.limits import Limits
from nibt.errors import BadOption, Unsupported, install

KEPT = ("lite", "scenes")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
PUBLIC = (
    "Everyone who can reach this port can use the page, and with it this machine. There is no password and no "
    "encryption: put a reverse proxy that has both in front of it."
)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    models: Sequence[str] = (),
    limits: Limits | None = None,
    public: bool = False,
    framed: bool = False,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until Ctrl-C, with uploads in a temporary folder; with ``framed``, in frames of other pages."""
    check_host(host, public)
    listener = bind_socket(host, port)
    limits = limits or Limits()
    with listener, tempfile.TemporaryDirectory(prefix="nibt-serve-") as folder:
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        try:
            import uvicorn

            from nibt.app.ui import page
        except ImportError as error:
            raise Unsupported(f"the page needs gradio: {install('app')}") from error
        from nibt.app.models import ModelCache

        # the warning is about the data of the view, which are not meant to run
        warnings.filterwarnings("ignore", "A `<script>` tag was found")
        model_cache = ModelCache.of_names(KEPT, models)
        app = Guard(
            page(model_cache, limits),
            Path(folder),
            limits.max_upload_bytes,
            hosts=() if public else LOOPBACK_HOSTS,
            framed=framed,
        )
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

        class Server(uvicorn.Server):
            """A server that closes open pages when it is stopped."""

            def handle_exit(self, sig: int, frame: Any) -> None:
                super().handle_exit(sig, frame)
                app.close()

        server = Server(config)
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again; the folder must be deleted first
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            server.run(sockets=[listener])


def check_host(host: str, public: bool) -> None:
    """Check that other machines can reach a host only if that is intended."""
    if not public and not is_loopback(host):
        raise BadOption(f"other machines can reach the host {host!r}: add --public if that is intended. {PUBLIC}")


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to a port, so that a port in use is reported before models are loaded."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadOption(
            f"cannot listen on port {port} of {host!r} ({error.strerror or error}): choose another with "
            "--port, or another --host"
        ) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
