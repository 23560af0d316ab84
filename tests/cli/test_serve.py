"""Tests of ``nibt.cli.commands.serve``."""

import socket

import pytest

from nibt.app.server import check_host
from nibt.errors import BadOption
from tests.helpers import Run


def test_serve_needs_public_for_other_machines(run: Run) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(BadOption, match="--public"):
            check_host(host, public=False)
        check_host(host, public=True)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(host, public=False)
    for host in ("x y", "http://localhost", "127.0.0.1;"):
        with pytest.raises(BadOption, match="a host must be an address or a name"):
            check_host(host, public=True)
    code, _, errors = run("serve", "--host", "0.0.0.0")
    assert (code, "--public" in errors, "Traceback" in errors) == (2, True, False)


def test_serve_reports_a_port_in_use(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, errors = run("serve", "--port", taken.getsockname()[1])
    assert (code, "choose another with --port" in errors, "Traceback" in errors) == (2, True, False)


@pytest.mark.parametrize(
    "option",
    ["--limit=timeout=0", "--limit=max_queue=-1", "--limit=max_upload_mb=0", "--limit=megapixels=0", "--port=99999"],
)
def test_serve_rejects_bad_limits(run: Run, option: str) -> None:
    code, _, errors = run("serve", option)
    assert (code, "must" in errors) == (2, True)
