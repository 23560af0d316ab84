"""The server of the page, and a folder that runs the page as a Space."""

import ipaddress
import os
import re
import shutil
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from pprint import pformat
from types import FrameType

from huggingface_hub.utils import yaml_dump

from nibt.app.guard import Guard
from nibt.app.limits import Limits
from nibt.errors import BadOption, CannotLoad, CannotWrite, Unsupported, install, reason
from nibt.io import one_line, read_text, remove
from nibt.models._embedded import embedded_generators
from nibt.models._hub import files_read
from nibt.models._loaded import LoadedModel
from nibt.models._loading import check_name
from nibt.options import Keywords

KEPT = ("lite", "lite:256", "scenes")
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
    served: Sequence[LoadedModel] = (),
) -> None:
    """Serve the page until Ctrl-C, with uploads in a temporary folder; with ``framed``, in frames of other pages.

    ``served`` are loaded generators behind servers, which visitors may choose by their names.
    """
    check_host(host, public)
    listener = bind_socket(host, port)
    limits = limits or Limits()
    with listener, tempfile.TemporaryDirectory(prefix="nibt-serve-") as folder:
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        from nibt.app.cache import ModelCache

        # before gradio is imported: a wrong name is a better answer than a missing package
        model_cache = ModelCache.of_names(KEPT, models, served)

        try:
            import uvicorn

            from nibt.app.ui import page
        except ImportError as error:
            raise Unsupported(f"the page needs gradio: {install('app')}") from error

        # the warning is about the data of the view, which are not meant to run
        warnings.filterwarnings("ignore", "A `<script>` tag was found")
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

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                super().handle_exit(sig, frame)
                app.close()

        server = Server(config)
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again; the folder must be deleted first
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            server.run(sockets=[listener])


def check_host(host: str, public: bool) -> None:
    """Check that a host can be one, and that other machines can reach it only if that is intended."""
    if not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise BadOption(f"a host must be an address or a name, such as 127.0.0.1 or localhost (got {host!r:.80})")
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


_FILES = files("nibt.app") / "space_files"
"""The files of a Space, with names in braces for what differs."""


def write_space(folder: Path, models: Sequence[str], limits: Keywords) -> None:
    """Write the folder of a Space, with the files that loading reads of models in folders; if it fails, nothing."""
    Limits(**limits)
    gradio = _gradio_version()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOption(f"--space must be a new or an empty folder (got {str(folder)!r}): choose another name")

    local = {name: f"models/{Path(name).resolve().name}" for name in models if Path(name).is_dir()}
    copied: list[tuple[Path, str]] = []
    for name in models:
        files = _files_of(name)
        copied += [(Path(name, file), f"{local[name]}/{file}") for file in files]
        if name in local and folder.resolve().is_relative_to(Path(name).resolve()):
            raise BadOption(f"--space must not be in the folder of a model (got {str(folder)!r}): choose another place")

    if len(set(local.values())) < len(local):
        raise BadOption(f"the folders of models must have different names (got {', '.join(local)}): rename one")

    texts = _texts_of_space(models, [local.get(name, name) for name in models], limits, gradio)
    _write_files(folder, copied, texts)


def _write_files(folder: Path, copied: Sequence[tuple[Path, str]], texts: Mapping[str, str]) -> None:
    """Copy and write files into a folder; if one fails, what was written is removed."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in copied:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / target)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(folder / "models", ignore_errors=True)
        remove([*(folder / name for name in texts if (folder / name).exists()), *created])
        if isinstance(error, OSError):
            raise CannotWrite(f"cannot write {str(folder)!r} ({reason(error)}): choose another folder") from error
        raise


def _gradio_version() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError as error:
        raise Unsupported(f"the page needs gradio: {install('app')}") from error


def _files_of(name: str) -> list[str]:
    """Return the files that are copied of a model: of a folder those that loading reads, of others none."""
    if name.startswith((".", "/", "~")) or Path(name).exists():
        try:
            return files_read(Path(name))
        except (CannotLoad, KeyError) as error:
            raise BadOption(
                f"{name!r} is not the folder of a saved model: give a folder with its configuration, or a name"
            ) from error

    if name not in embedded_generators():
        check_name(name)
    return []


def _texts_of_space(models: Sequence[str], served: Sequence[str], limits: Keywords, gradio: str) -> dict[str, str]:
    """Return the files of a Space by their names, of which the models are served as they are named there."""
    title = f"nibt: {', '.join(Path(name).name for name in models) or 'explain images'}"
    header = {"title": title, "sdk": "gradio", "sdk_version": gradio, "app_file": "app.py", "pinned": False}
    values = {
        "header": yaml_dump(header),
        "version": version("nibt"),
        "models": one_line(", ".join([*KEPT, *embedded_generators(), *served])),
        "served": pformat(list(served)),
        "limits": pformat(dict(limits)),
    }
    sources = {"README.md": "README.md", "requirements.txt": "requirements.txt", "app.py": "app.txt"}
    return {name: read_text(_FILES / source).format(**values) for name, source in sources.items()}
