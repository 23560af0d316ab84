"""Writes the skeleton of a metric, its test and its entries in the documents: ``python docs/skeleton.py my_metric``.

The metric is that of ``guides/own_metric.md``, and passes the gate. Then change what it computes, its docstring and its
test; ``python docs/generate.py`` brings the documents up to date.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = '''"""Tests of ``nibt.metrics.{name}``."""

import pytest

from tests.metrics.known_maps import FIRST, LAST, of, on


def test_{name}_of_known_maps() -> None:
    assert of("{name}", on(FIRST)) == pytest.approx(1, abs=0.2)  # the first quarter is the object
    assert of("{name}", on(LAST)) == pytest.approx(0, abs=0.2)
'''


def main() -> None:
    """Write the files, then what the documents derive from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the name of the metric, in lower case with underscores")
    name = parser.parse_args().name
    if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name):
        parser.error(f"the name must be lower case, with underscores between words (got {name!r})")
    if (path := ROOT / "src" / "nibt" / "metrics" / f"{name}.py").exists():
        parser.error(f"{path.relative_to(ROOT)} exists: choose another name")
    written = write(ROOT, name)
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py"], check=True)
    for path in (*written, ROOT / "docs" / "index.json"):
        print(f"wrote {path.relative_to(ROOT)}")


def write(root: Path, name: str) -> list[Path]:
    """Write the metric and its test, and add its name to the list of metrics."""
    guide = (ROOT / "docs" / "guides" / "own_metric.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^<!-- file: .*? -->\n```python\n(.*?)^```$", guide, re.M | re.S)
    ((class_name, former),) = re.findall(r'^class (\w+)\(Metric, name="(\w+)"\)', example, re.M)
    example = example.replace(class_name, name.title().replace("_", "")).replace(former, name)
    listed = root / "docs" / "reference" / "metrics" / "index.md"
    texts = {
        root / "src" / "nibt" / "metrics" / f"{name}.py": example,
        root / "tests" / "metrics" / f"test_{name}.py": TEST.format(name=name),
        listed: listed.read_text(encoding="utf-8").replace("`own_object`,", f"`own_object`, `{name}`,"),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


if __name__ == "__main__":
    main()
