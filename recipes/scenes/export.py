"""Make the folder of a model, such as the embedded model `scenes`, from a trained checkpoint.

    python recipes/scenes/export.py --run RUN --out FOLDER [--network siglip|late]

Weights as fp16 safetensors, the processor, the mean states at every layer (for `baseline="mean"`) and the mean
embeddings (for the target `centered`), over scenes of a seed that is used for nothing else, and `nibt.json`.
The NOTICE is that of the embedded model; no other network is given away.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from course import ARCHITECTURES, architecture

import nibt
from nibt.datasets.scenes import Scenes
from nibt.engine.encode import encode
from nibt.models._mean_states import MeanStates

HERE = Path(__file__).parent
MEANS = 5  # the seed of the scenes that are averaged
COUNT = 2000


def weights(name, run, out):
    """The trained network as a Hugging Face folder in half precision."""
    processor = architecture(name).processor()
    model = architecture(name).network(processor.tokenizer)
    model.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["model"])
    if name == "late":
        del model.logit_scale  # which served the training alone
    model.eval().half().save_pretrained(out)
    processor.save_pretrained(out)


def means(out):
    """Mean states and mean embeddings, as `nibt calibrate` makes them; in half precision."""
    model = nibt.load_model(out)
    data = Scenes(count=COUNT, seed=MEANS)
    pairs = list(data)
    states = nibt.calibrate(model, [pair.image for pair in pairs], [pair.caption for pair in pairs], batch_size=100)
    centres = {}
    if model.similarity.item_ndim == 1:
        images = F.normalize(encode(model.image, [pair.image for pair in pairs], 100), dim=-1)
        captions = F.normalize(encode(model.text, [pair.caption for pair in pairs], 100), dim=-1)
        centres = {"centre.image": images.mean(0), "centre.text": captions.mean(0)}
    halves = {name: tensor.half() for name, tensor in (states.tensors | centres).items()}
    MeanStates(halves, states.facts).save(out / "mean_states.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(ARCHITECTURES), default="clip")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    weights(options.network, options.run, options.out)
    means(options.out)
    if options.network == "clip":
        shutil.copy(HERE / "settings.json", options.out / "nibt.json")
        shutil.copy(HERE / "NOTICE.md", options.out / "NOTICE.md")
    else:
        settings = json.loads((HERE / "settings.json").read_text()) | {"about": architecture(options.network).ABOUT}
        del settings["usual_change"]  # of the shipped network
        (options.out / "nibt.json").write_text(json.dumps(settings, indent=2) + "\n")
    size = sum(file.stat().st_size for file in options.out.iterdir())
    print(json.dumps({"folder": options.out.name, "megabytes": round(size / 1e6, 2)}))


if __name__ == "__main__":
    main()
