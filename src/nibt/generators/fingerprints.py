"""What a model behind a server shows for a fixed request, by which another model under the same name is recognized."""

from nibt.records import JsonObject

_SAME = 0.2  # nats, by which a model may differ from itself
_NOISE = 5.0  # times the noise of the server, by which it may differ if that is more
_MOST = 5  # tokens of a place that are compared; less probable ones are noisier


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
