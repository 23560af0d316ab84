"""Write the folder of the embedded generator from a trained run, in half precision.

python recipes/generator/export.py --run RUN --out src/nibt/models/embedded/scenes_generator
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from network import network, processor

HERE = Path(__file__).parent
ABOUT = (
    "A small LLaVA that describes the scenes of nibt.datasets.scenes and answers questions about them; nothing else."
)
DOMAIN = (
    "this model knows only drawn scenes of 64 nouns: what it says about any other image, and these scores of it, mean "
    "nothing"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    joint = processor()
    model = network(joint)
    model.load_state_dict(torch.load(options.run / "checkpoint.pt", weights_only=True)["model"])
    model.eval().half().save_pretrained(options.out)
    joint.save_pretrained(options.out)
    licence = "Apache-2.0; see NOTICE.md for the drawings that it was trained on"
    settings = {"about": ABOUT, "domain": DOMAIN, "licence": licence}
    (options.out / "generator.json").write_text(json.dumps(settings, indent=2) + "\n")
    shutil.copy(HERE / "NOTICE.md", options.out / "NOTICE.md")
    print(json.dumps({"megabytes": round(sum(file.stat().st_size for file in options.out.iterdir()) / 1e6, 2)}))


if __name__ == "__main__":
    main()
