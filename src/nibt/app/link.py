"""Links to a result of a sample image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from nibt.app.request import VARIANTS, ExplainRequest, Mode
from nibt.data.images import SAMPLE, samples
from nibt.registry import available


@dataclass(frozen=True)
class Link:
    """The parameters of a link; the script of the page adds and reads the selected words itself."""

    image: str
    captions: str
    mode: str
    model: str
    methods: tuple[str, ...]
    variant: str

    @classmethod
    def of(cls, request: ExplainRequest) -> "Link | None":
        """Return the link to a request, or None if its image was uploaded and so cannot be linked to."""
        if not request.image.source.startswith(SAMPLE):
            return None
        return cls(
            request.image.source.removeprefix(SAMPLE),
            "\n".join(request.captions),
            request.mode,
            request.model,
            request.methods,
            request.variant,
        )

    @property
    def values(self) -> list[Any]:
        """The values of the fields of the page after the image."""
        return [self.captions, self.mode, list(self.methods), self.model, self.variant]

    @property
    def query(self) -> str:
        """The query of the URL.

        >>> Link("coffee", "a cup", "each", "lite", ("nib", "grad_cam"), "default").query
        'image=coffee&captions=a+cup&mode=each&model=lite&methods=nib%2Cgrad_cam&variant=default'
        """
        return urlencode({**vars(self), "methods": ",".join(self.methods)})

    @classmethod
    def from_query(cls, query: Mapping[str, str], models: list[str], max_characters: int) -> "Link | None":
        """Return the link with the parameters of a URL, or None if a parameter is missing or has an unknown value."""
        methods = tuple(query.get("methods", "nib").split(","))
        link = cls(
            query.get("image", ""),
            query.get("captions", "")[:max_characters],
            query.get("mode", "each"),
            query.get("model", models[0]),
            methods,
            query.get("variant", "default"),
        )
        is_valid = (
            link.image in samples()
            and link.model in models
            and link.mode in list(Mode)
            and link.variant in VARIANTS
            and set(methods) <= set(available("methods"))
        )
        return link if is_valid and link.captions.strip() else None
