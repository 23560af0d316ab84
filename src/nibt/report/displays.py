"""Registration of results with IPython by the names of their classes.

IPython looks the names up when it displays a value. The drawing code is imported when the first result is displayed.
"""

from functools import partial
from typing import Any

PAGE = "text/html"
PICTURE = "image/png"
TYPES: dict[tuple[str, str], tuple[str, ...]] = {
    ("nibt.results.explanation", "Explanation"): (PAGE, PICTURE),
    ("nibt.results.regions", "Regions"): (PAGE, PICTURE),
    ("nibt.generators.results.answer", "AnswerExplanation"): (PAGE, PICTURE),
    ("nibt.heads.decomposition", "Decomposition"): (PICTURE,),
    ("nibt.slides.explanation", "SlideExplanation"): (PAGE, PICTURE),
    ("nibt.report.html.view_data", "Panel"): (PAGE,),
    ("nibt.results.audit", "Audit"): (PAGE,),
    ("nibt.results.parts", "Parts"): (PAGE,),
    ("nibt.results.word_parts", "WordParts"): (PAGE,),
    ("builtins", "list"): (PAGE,),
}
"""The media types in which values are displayed, by module and class. Of lists, only those of measurements are."""


def register(shell: Any) -> None:
    """Register results with an IPython shell. Functions that were registered for the same classes before are kept."""
    for (module, name), media_types in TYPES.items():
        for media_type in media_types:
            formatter = shell.display_formatter.formatters[media_type]
            if f"{module}.{name}" not in formatter:
                formatter.for_type_by_name(module, name, partial(_display, media_type))


def _display(media_type: str, value: object) -> Any:
    """Return a value in a media type, or None if it has no such form."""
    if isinstance(value, list) and not (value and type(value[0]).__module__ == "nibt.results.records"):
        return None
    from nibt.report.notebook import display_data

    return display_data(value, media_type)
