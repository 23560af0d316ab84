"""What a model behind a server shows for a fixed request, by which another model under the same name is recognized."""

from typing import Any

from nibt.errors import OtherRequest
from nibt.folder import RunFolder
from nibt.records import JsonObject

_SAME = 0.2  # nats, by which a model may differ from itself
_NOISE = 5.0  # times the noise of the server, by which it may differ if that is more
_MOST = 5  # tokens of a place that are compared; less probable ones are noisier


def agree(folder: RunFolder[Any], fingerprint: JsonObject, content: str, name: str) -> None:
    """Record what a model shows in the manifest of a folder, or check that the folder is of the same model.

    Args:
        folder: The folder, whose manifest has a ``fingerprint``, which may be None.
        fingerprint: What the model shows for a fixed request.
        content: What the folder has of the model, for the message, such as ``results of``.
        name: The name of the model.

    Raises:
        OtherRequest: It is another model.
    """
    before = folder.manifest.fingerprint if folder.is_begun else None
    if before is None:
        folder.update(fingerprint=fingerprint)
    elif difference := other_model(before, fingerprint):
        raise OtherRequest(
            f"{folder.folder} has the {content} another model under the name {name!r} ({difference}): choose a new "
            "folder"
        )


def other_model(before: JsonObject, now: JsonObject) -> str:
    """Return how two fingerprints tell models apart; empty if one model may have both.

    A fingerprint has the ``noise`` of the server, and ``places`` with the ``token`` that is written at each place and
    the log-probabilities that are ``shown`` there. The places after a token that only one of both has are not
    compared: noise may decide between two tokens that are about as likely.
    """
    allowed = max(_SAME, _NOISE * before["noise"], _NOISE * now["noise"])
    for earlier, later in zip(before["places"], now["places"], strict=False):
        likely = sorted(earlier["shown"], key=lambda token: -earlier["shown"][token])[:_MOST]
        common = [token for token in likely if token in later["shown"]]
        if not common:
            return "it shows other tokens"

        largest = max(abs(earlier["shown"][token] - later["shown"][token]) for token in common)
        if largest > allowed:
            return f"its log-probabilities differ by {largest:.2g} nats"
        if earlier["token"] != later["token"]:
            return ""

    return ""
