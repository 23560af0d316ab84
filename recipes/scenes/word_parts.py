"""Do parts of captions find a planted cue in the words? On models whose reason is known.

    OMP_NUM_THREADS=1 python recipes/scenes/word_parts.py measure --models MODELS --out RUN --count 200
    python recipes/scenes/word_parts.py report --out RUN    # prints the table, and writes study/word_parts.csv

The number of clusters was chosen on ``template`` and ``word``, on other scenes. Nothing was chosen on ``end``
(``cues.py``). A part's purity is the share of its score on words of the cue.
"""

from pathlib import Path

import cues
import torch
from audits import pairs_of
from parts import PURE, ends, failing, is_cue_setting, loaded, without_seed
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, print_table, stored, write_csv
from shortcut import TEMPLATES, interventions, planted, share, word

import nibt
from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.evaluation.statistics import jackknife

KINDS = ("template", "word", "end")
CHOSEN_ON = ("template", "word", "half template")
CSV = Path(__file__).parents[2] / "docs" / "explanation" / "study" / "word_parts.csv"
HEADINGS = ("model", "pairs", "chosen on", "cue used", "shortcuts", "share of shortcuts", "first pure part")


def cue_words(kind):
    """The words of a cue, in lower case."""
    if kind == "end":
        return {each for phrase in cues.ENDS for each in phrase.split()}
    if kind == "template":
        return {each for template in TEMPLATES for each in template.replace("{}", "a an").split()}
    return {caption[first:last] for caption, ((first, last),), _ in (word("cat", noun, 0) for noun in NOUNS)}


def settings(models):
    """Each model that is there with the pairs it is asked about: (model, pairs)."""
    listed = [("scenes", "one"), ("honest-1", "one")]
    listed += [(f"{kind}-1", kind) for kind in KINDS] + [(f"half {kind}-1", kind) for kind in KINDS]
    listed += [("honest-1", kind) for kind in KINDS]
    return [
        (name, kind)
        for name, kind in listed
        if name == "scenes" or (models / name.removeprefix("half ") / "model.safetensors").exists()
    ]


def measure(options):
    torch.set_num_threads(1)
    path = options.out / f"word-parts-{options.part}.jsonl"
    for number, (name, kind) in enumerate(settings(options.models)):
        key = f"{name}|{kind}"
        if number % options.parts != options.part or key in stored(path):
            continue
        model = loaded(name, options.models)
        found = nibt.word_parts(model, pairs_of(kind, options.count, UNSEEN + 17))
        record = {"verdicts": [part.verdict for part in found.parts], "shares": [part.share for part in found.parts]}
        if is_cue_setting(name, kind):
            of_cue = cue_words(kind)
            record["purities"] = [
                sum(row.share for row in part.words if row.word in of_cue) / sum(row.share for row in part.words)
                for part in found.parts
            ]
            data = Scenes(count=options.count, seed=UNSEEN + 17, fewest=2, most=3, named="one")
            scenes = [planted(kind, data, item) for item in range(options.count)]
            record["truth"] = list(jackknife(interventions(model, scenes), share))
        kept(path, {"key": key, **record})
        print(key, record, flush=True)


def rows(records):
    for key, record in records.items():
        name, kind = key.split("|")
        shortcuts = [place for place, verdict in enumerate(record["verdicts"]) if verdict == "shortcut"]
        pure = [place for place, purity in enumerate(record.get("purities", ()), 1) if purity >= PURE]
        yield {
            "model": name,
            "pairs": kind,
            "chosen on": "yes" if without_seed(name) in CHOSEN_ON else "no",
            "cue used": ends(record.get("truth")),
            "shortcuts": f"{len(shortcuts)} of {len(record['verdicts'])}",
            "share of shortcuts": f"{sum(record['shares'][place] for place in shortcuts):.2f}",
            "first pure part": str(pure[0]) if pure else "-",
        }


def report(options):
    records = collect(options.out, "word-parts")
    table = list(rows(records))
    print(f"{machine()}; {options.count} scenes of seed {UNSEEN + 17}\n")
    print_table(HEADINGS, table)
    honest = [
        [{"verdict": verdict} for verdict in record["verdicts"]] for record in records.values() if "truth" not in record
    ]
    print(f"\nmodels without a cue that have a shortcut: {failing(honest)}")
    write_csv(CSV, HEADINGS, table)


def extend(parser):
    parser.add_argument("--models", type=Path, help="the folder of the models")


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, extend)
    {"measure": measure, "report": report}[arguments.what](arguments)
