"""Prompts of several turns, as the chat templates of Transformers take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from nibt.data.pair import MOST_CHARACTERS, is_visible, too_long
from nibt.errors import BadInput
from nibt.io import unicode_text

Prompt: TypeAlias = str | Sequence[Mapping[str, object]]
"""A prompt: a text, or messages with a role and a content."""


class Turn(TypedDict):
    """A message whose content is a list of parts."""

    role: str
    content: list[dict[str, str]]


@dataclass(frozen=True)
class Conversation:
    """The turns of a conversation: messages whose contents are lists of images and texts, or of a video and texts."""

    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, messages: object, images: int) -> "Conversation":
        """Read messages; a number of images without places come before the first text of the user."""
        if not isinstance(messages, Sequence) or not messages:
            raise BadInput(f"the prompt must be a text, or a list of messages (got {messages!r:.100})")

        turns = [_turn(number, message) for number, message in enumerate(messages)]
        roles = [turn["role"] for turn in turns]
        if roles[-1] != "user":
            raise BadInput(
                f"the last message must be the user's (got {roles[-1]!r}): give what the model says next as the answer"
            )

        places = [part["type"] for turn in turns for part in turn["content"] if part["type"] != "text"]
        if "video" in places:
            if len(places) > 1:
                raise BadInput(
                    f"the messages must have one video, whose frames are the images, and no image (got {len(places)} "
                    "places): leave the others out"
                )
        elif not places:
            first = turns[roles.index("user")]
            first["content"] = [{"type": "image"}] * images + first["content"]
        elif len(places) != images:
            raise BadInput(f"the messages must have a place for each of {images} images (got {len(places)})")

        return cls(tuple(turns))

    @property
    def has_video(self) -> bool:
        """Whether the images are the frames of a video."""
        return any(part["type"] == "video" for turn in self.turns for part in turn["content"])

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all turns."""
        parts = (part for turn in self.turns for part in turn["content"])
        return tuple(part["text"] for part in parts if part["type"] == "text")

    def with_texts(self, texts: Sequence[str]) -> "Conversation":
        """Return the conversation with other texts."""
        left = iter(texts)
        turns: list[Turn] = []
        for turn in self.turns:
            content = [{**part, "text": next(left)} if "text" in part else part for part in turn["content"]]
            turns.append({"role": turn["role"], "content": content})
        return Conversation(tuple(turns))


def _turn(number: int, message: object) -> Turn:
    """Read a message: its role, and its content as a list."""
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise BadInput(f'message {number} must be {{"role": ..., "content": ...}} (got {message!r:.100})')

    others = sorted(map(str, set(message) - {"role", "content"}))
    if others:
        raise BadInput(
            f"message {number} must have a role and a content only (got also {', '.join(others)}): leave the rest out, "
            "or write it into the content"
        )

    role = message["role"]
    content = message["content"]
    if role not in ("system", "user", "assistant"):
        raise BadInput(f"the role of message {number} must be system, user or assistant (got {role!r:.100})")

    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, Sequence) or not parts:
        raise BadInput(f"the content of message {number} must be a text, or a list of parts (got {content!r:.100})")
    return {"role": role, "content": [_part(number, part) for part in parts]}


def _part(number: int, part: object) -> dict[str, str]:
    """Read a part of a message: a text, or the place of an image or of a video."""
    entries = part if isinstance(part, Mapping) else {}
    medium = entries.get("type")
    if medium in ("image", "video"):
        if len(entries) > 1:
            raise BadInput(
                f'the {medium} of message {number} must be {{"type": "{medium}"}} (got {part!r:.100}): give the images '
                "or frames themselves in image, in their order"
            )
        return {"type": medium}
    if medium != "text" or "text" not in entries:
        raise BadInput(
            f'a part of message {number} must be {{"type": "text", "text": ...}}, {{"type": "image"}} or '
            f'{{"type": "video"}} (got {part!r:.100})'
        )

    text = entries["text"]
    if len(unicode_text(f"text of message {number}", text)) > MOST_CHARACTERS:
        raise BadInput(too_long("prompt", text))
    if not is_visible(text):
        raise BadInput(f"a text of message {number} must not be empty (got {text!r})")
    return {"type": "text", "text": text.strip()}
