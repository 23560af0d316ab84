"""Requests of the page."""

from typing import Any

from nibt.app.limits import Limits
from nibt.app.request import ExplainRequest
from nibt.data.images import sample_file

LIMITS = Limits()


def make_request(captions: Any = "a cat", mode: Any = "each", methods: Any = ("nib",), **others: Any) -> ExplainRequest:
    fields = {"file": sample_file("coffee"), "model": "scenes", "variant": "default", "limits": LIMITS, **others}
    values = fields["file"], captions, mode, methods, fields["model"], fields["variant"], fields.get("against")
    return ExplainRequest.of_values(values, fields["limits"])
