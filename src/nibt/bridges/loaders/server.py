"""Generators behind a server, for ``nibt.load_generator(ADDRESS, name=...)``."""

from collections.abc import Mapping
from typing import Any

from nibt.errors import NEEDS_HTTPX, BadOption, check_names, import_optional
from nibt.generators.answers import Generator
from nibt.options import field_types
from nibt.registry import Plugin


class ServerLoader(Plugin, name="server"):
    """Loads the generator behind an address."""

    @staticmethod
    def options() -> Mapping[str, Any]:
        """Return the types of the options."""
        import_optional("httpx", NEEDS_HTTPX, "server")
        from nibt.bridges.answer_servers import AnswerServer
        from nibt.bridges.served_answers import ServedOptions

        of_server = {
            name: option_type
            for name, option_type in field_types(AnswerServer).items()
            if name != "url" and not name.startswith("_")
        }
        return {**of_server, **field_types(ServedOptions)}

    @classmethod
    def load(cls, url: str, **options: Any) -> Generator:
        """Return the generator, of which nothing is asked yet."""
        check_names("loading options", options, cls.options())
        if options.get("name") in (None, ""):
            raise BadOption(
                "the name of the model on the server is missing: give it, as in "
                f"load_generator({url!r:.80}, name='my-llava'), or with -m"
            )

        from nibt.bridges.answer_servers import SAMPLES, AnswerServer
        from nibt.bridges.sampled_answers import SampledAnswerServer
        from nibt.bridges.served_answers import ServedGenerator, ServedOptions

        server_class = SampledAnswerServer if options.get("way") == SAMPLES else AnswerServer
        own = {name: value for name, value in options.items() if name in field_types(ServedOptions)}
        of_server = {name: value for name, value in options.items() if name not in own}
        return ServedGenerator.of(server_class(url, **of_server), ServedOptions(**own))
