"""What a server of answers is asked: images and a prompt, as messages in the shape of OpenAI's ``chat/completions``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from PIL import Image

from nibt.bridges.connection import image_part
from nibt.data.conversation import Conversation
from nibt.models._checks import seeded_noise
from nibt.records import JsonObject
from nibt.report.image.layout import uri


@dataclass(frozen=True)
class Question:
    """Images with a prompt: a text, which comes after them, or a conversation with their places.

    Attributes:
        images: The images. With none, the places of images in a conversation are left out.
        prompt: The prompt.
    """

    images: tuple[Image.Image, ...]
    prompt: str | Conversation

    def with_images(self, images: Sequence[Image.Image]) -> "Question":
        """Return the question with other images."""
        return Question(tuple(images), self.prompt)

    def with_noise(self) -> "Question":
        """Return the question with noise in place of each image, which is the same each time."""
        return self.with_images([seeded_noise().resize(image.size) for image in self.images])

    def with_texts(self, texts: Sequence[str]) -> "Question":
        """Return the question with other texts."""
        prompt = self.prompt.with_texts(texts) if isinstance(self.prompt, Conversation) else texts[0]
        return replace(self, prompt=prompt)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the prompt."""
        return self.prompt.texts if isinstance(self.prompt, Conversation) else (self.prompt,)

    @property
    def text(self) -> str:
        """The prompt as results show it."""
        return "\n".join(self.texts)

    @property
    def key(self) -> str:
        """What tells the prompt apart from others."""
        return json.dumps(self.prompt.turns) if isinstance(self.prompt, Conversation) else self.prompt

    def messages(self) -> list[JsonObject]:
        """Return the messages of a request. Texts without words are left out where something else remains."""
        if isinstance(self.prompt, str):
            text = [{"type": "text", "text": self.prompt}] if self.prompt or not self.images else []
            return [{"role": "user", "content": [*self._parts, *text]}]

        images = iter(self._parts)
        messages: list[JsonObject] = []
        for turn in self.prompt.turns:
            content: list[JsonObject] = []
            for part in turn["content"]:
                if part["type"] == "text":
                    content += [part] if part["text"] else []
                elif self.images:
                    content.append(next(images))

            messages.append({"role": turn["role"], "content": _shortest(content)})

        return messages

    @cached_property
    def _parts(self) -> list[JsonObject]:
        """The images as parts of messages."""
        return [image_part(uri(image.convert("RGB"))) for image in self.images]


def _shortest(content: list[JsonObject]) -> list[JsonObject] | str:
    """Return the content of a message as a text if it is one, which all servers take for a system and an assistant."""
    if not content:
        return ""
    return content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content
