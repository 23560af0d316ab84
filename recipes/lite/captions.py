"""Captions to learn from, as token numbers: names of concepts among words that must not matter.

There is no corpus: a caption is 0 to 4 names, each with words around it, either in patterns that captions have
("a photo of a ...", "a small ... sitting on a ...") or at random. Words that are part of a longer name, unknown words
and padding in a word's place occur among the neutral ones, so that they stay neutral.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import torch

PATTERNS = json.loads((Path(__file__).parent / "patterns.json").read_text())
LENGTHS, LENGTH_WEIGHTS = [8, 12, 16, 24, 32], [25, 30, 25, 12, 8]


@dataclass
class Writer:
    """Draws batches of captions; `lookup` sends a string to token numbers, `vectors` has one row a name."""

    lookup: callable
    groups: list  # lists of names, one of which is drawn first
    group_weights: list
    rows: dict  # name -> row of vectors
    vectors: torch.Tensor
    target: callable  # sends the vectors of names to the vector of their caption
    neutral: list
    common: list
    fragments: list
    start: int
    end: int
    unknown: int
    seed: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self):
        self.tokens = {name: self.lookup(name) for name in self.rows}
        parts = (
            (list(map(self.lookup, group))) for group in (PATTERNS["openers"], PATTERNS["joiners"], PATTERNS["closers"])
        )
        self.openers, self.joiners, self.closers = parts
        self.neutral, self.common, self.fragments = (
            [self.lookup(word)[0] for word in group] for group in (self.neutral, self.common, self.fragments)
        )

    def batch(self, size, step):
        """(tokens, targets) of a step; the same for the same seed and step."""
        self.chance = random.Random(self.seed * 1_000_003 + step)
        length = self.chance.choices(LENGTHS, LENGTH_WEIGHTS)[0]
        captions = [self._caption(length - 2) for _ in range(size)]
        tokens = torch.zeros(size, length, dtype=torch.long)
        for row, (words, _) in zip(tokens, captions, strict=True):
            row[: len(words) + 2] = torch.tensor([self.start, *words, self.end])
        return tokens, torch.stack([self.target(self.vectors[names]) for _, names in captions])

    def _caption(self, most):
        names = [self._name() for _ in range(self.chance.choices([0, 1, 2, 3, 4], [8, 44, 28, 13, 7])[0])]
        if not names:
            return self._noise(self.chance.randint(0, most)), []
        loose = self.chance.random() < 0.35
        words, kept = [], []
        for position, name in enumerate(names):
            around = self._noise(self.chance.choice([0, 1, 1, 2, 2, 3, 4, 6])) if loose else self._pattern(position)
            if len(words) + len(around) + len(self.tokens[name]) <= most:
                words += around + self.tokens[name]
                kept.append(self.rows[name])
        if not kept:
            words, kept = self.tokens[names[0]], [self.rows[names[0]]]
        room = most - len(words)
        tail = self._noise(self.chance.randint(0, 6)) if loose else self.chance.choice(self.closers)
        return (words + tail[: max(room, 0)])[:most], kept

    def _name(self):
        return self.chance.choice(self.chance.choices(self.groups, self.group_weights)[0])

    def _pattern(self, position):
        words = list(self.chance.choice(self.joiners if position else self.openers))
        return words + self._noise(self.chance.choices([0, 1, 2], [60, 30, 10])[0])

    def _noise(self, count):
        kinds = self.chance.choices(
            [self.common, self.neutral, self.fragments, [self.unknown], [0]], [40, 28, 14, 13, 5], k=count
        )
        return [self.chance.choice(kind) for kind in kinds]
