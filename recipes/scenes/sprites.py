"""Make the sprite sheets of `nibt.datasets.scenes` from three packages of emoji (pip is not enough: needs npm).

    python recipes/scenes/sprites.py --cache CACHE

Each sheet is one row of 64 x 64 pixels an emoji, in the order of `nouns.json`.
"""

import argparse
import io
import json
import subprocess
import tarfile
from importlib.resources import files
from pathlib import Path

from PIL import Image

SIDE = 64
PACKAGES = {
    "noto": ("emoji-datasource-google@16.0.0", "img/google/64/{}.png"),
    "twemoji": ("emoji-datasource-twitter@16.0.0", "img/twitter/64/{}.png"),
    "fluent": ("@lobehub/fluent-emoji-3d@1.1.0", "assets/{}.webp"),
}
TARGET = Path(str(files("nibt") / "datasets" / "scenes"))


def archive(package, cache):
    """The package's archive, fetched unless it is in the cache."""
    name = package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz"
    if not (cache / name).exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True)
    return tarfile.open(cache / name)


def sprite(package, pattern, code):
    """One emoji; some packages leave the variation selector out of a file's name."""
    names = {f"package/{pattern.format(name)}" for name in (code, code.removesuffix("-fe0f"), f"{code}-fe0f")}
    (member,) = names & set(package.getnames())
    image = Image.open(io.BytesIO(package.extractfile(member).read())).convert("RGBA")
    return image if image.width == SIDE else image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the packages")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    codes = [code for codes in json.loads((TARGET / "nouns.json").read_text()).values() for code in codes]
    for style, (name, pattern) in PACKAGES.items():
        package = archive(name, cache)
        sheet = Image.new("RGBA", (SIDE * len(codes), SIDE))
        for place, code in enumerate(codes):
            sheet.paste(sprite(package, pattern, code), (SIDE * place, 0))
        sheet.save(TARGET / f"{style}.png", optimize=True)
        print(f"{style}: {len(codes)} emoji, {(TARGET / f'{style}.png').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
