"""A view of a sample image as the query of a link, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from nibt.app.request import SETTINGS, ExplainRequest, Mode
from nibt.data.images import SAMPLE, samples
from nibt.registry import available


@dataclass(frozen=True)
class Link:
    """What a link to a view says. Which words and which box are chosen, the browser adds and reads itself."""

    image: str
    captions: str
    question: str
    model: str
    methods: tuple[str, ...]
    variant: str

    @classmethod
    def to(cls, request: ExplainRequest) -> "Link | None":
        """The link to a request; None if its image is no sample, for nobody else has that."""
        if not request.image.source.startswith(SAMPLE):
            return None
        return cls(
            request.image.source.removeprefix(SAMPLE),
            "\n".join(request.captions),
            request.question,
            request.model,
            request.methods,
            request.variant,
        )

    @property
    def query(self) -> str:
        """The link's query.

        >>> Link("coffee", "a cup", "each", "lite", ("nib", "grad_cam"), "default").query
        'image=coffee&captions=a+cup&question=each&model=lite&methods=nib%2Cgrad_cam&variant=default'

        """
        return urlencode({**vars(self), "methods": ",".join(self.methods)})

    @classmethod
    def read(cls, query: Mapping[str, str], models: list[str], most: int) -> "Link | None":
        """What a query asks for; None if it asks for nothing, or for what there is not."""
        methods = tuple(query.get("methods", "nib").split(","))
        link = cls(
            query.get("image", ""),
            query.get("captions", "")[:most],
            query.get("question", "each"),
            query.get("model", models[0]),
            methods,
            query.get("variant", "default"),
        )
        known = (
            link.image in samples()
            and link.model in models
            and link.question in list(Mode)
            and link.variant in SETTINGS
            and set(methods) <= set(available("methods"))
        )
        return link if known and link.captions.strip() else None
