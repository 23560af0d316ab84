"""Which names stand for which ImageNet classes: WordNet's synonyms and hypernyms, plurals, and everyday words.

A WordNet name counts where the class (or hypernym) is its first, most common sense; a class's own first name and
names of several words always count. Everyday words (`everyday.json`) go before WordNet's. Names of people are left
out: ImageNet-1k shows no people as such, so people words say nothing here.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
PERSON = "00007846"
MOST_CLASSES = 450  # a hypernym of more classes than this (object, artifact, whole ...) says nothing
NOT_NAMES = set(
    re.split(
        r",\s+",
        """\
area, article, attachment, automatic, bar, barrier, being, board, body, bottom, can, causal agent, cell,
commodity, communication, consumer goods, container, course, cover, covering, creation, device, drop, end,
equipment, establishment, facility, feed, food, formation, game, geological formation, good, group, head,
implement, instrumentality, level, light, line, living thing, location, material, matter, means, mechanism,
medium, message, natural object, nutrient, obstruction, opening, organism, part, piece, place, point,
portion, product, region, relation, representation, rig, rod, room, setup, side, sign, signal, solid,
source, state, stuff, substance, support, surface, system, thing, top, unit, ware, way, work, works""",
    )
)


def simple(name):
    """Lower case, words apart by single spaces: what the tokenizer makes of a name."""
    return " ".join(re.findall(r"[^\W_]+", name.lower()))


def plural(name, irregular):
    *rest, last = name.split(" ")
    if last in irregular:
        return " ".join([*rest, irregular[last]])
    if re.search(r"(s|x|z|ch|sh)$", last):
        return name + "es"
    if re.search(r"[^aeiou]y$", last):
        return name[:-1] + "ies"
    return name + "s"


def ancestors(offset, parents):
    lineage, todo = set(), [offset]
    while todo:
        for parent in parents[todo.pop()]:
            if parent not in lineage:
                lineage.add(parent)
                todo.append(parent)
    return lineage


def first_names(offsets, net):
    return [simple(net.lemmas[offset][0]) for offset in offsets]


def names(offsets, net):
    """name -> indices of the classes that it stands for."""
    own = _class_names(offsets, net)
    indices_by_name = {**_hypernym_names(offsets, net), **own}
    indices_by_name.update(_everyday(offsets, net, indices_by_name))
    indices_by_name = {name: sorted(set(indices)) for name, indices in indices_by_name.items() if indices}
    for name in list(indices_by_name):
        indices_by_name.setdefault(plural(name, net.plurals), indices_by_name[name])
    return indices_by_name


def _counts(lemma, offset, net):
    """Whether a lemma, met alone, is likely to mean this synset."""
    return "_" in lemma or net.senses.get(lemma.lower(), [offset])[0] == offset


def _class_names(offsets, net):
    indices_by_name = {}
    for index, offset in enumerate(offsets):
        lemmas = net.lemmas[offset]
        for lemma in lemmas:
            if lemma == lemmas[0] or (_counts(lemma, offset, net) and simple(lemma) not in NOT_NAMES):
                indices_by_name.setdefault(simple(lemma), []).append(index)
    return indices_by_name


def _hypernym_names(offsets, net):
    members = {}
    for index, offset in enumerate(offsets):
        lineage = ancestors(offset, net.parents)
        for parent in lineage if PERSON not in lineage else ():
            members.setdefault(parent, []).append(index)
    indices_by_name = {}
    for parent, indices in sorted(members.items(), key=lambda item: -len(item[1])):
        for lemma in net.lemmas[parent] if len(indices) <= MOST_CLASSES else ():
            if _counts(lemma, parent, net) and simple(lemma) not in NOT_NAMES:
                indices_by_name[simple(lemma)] = indices
    return indices_by_name


def _everyday(offsets, net, known_names):
    """Everyday words name classes by WordNet's first lemma, or else any name that is known already."""
    firsts = {}
    for index, name in enumerate(first_names(offsets, net)):
        firsts.setdefault(name, []).append(index)
    table = json.loads((HERE / "everyday.json").read_text())
    return {
        simple(name): [i for kind in kinds for i in firsts.get(simple(kind)) or known_names[simple(kind)]]
        for name, kinds in table.items()
    }


def neutral_words(net, named, most=2500):
    """Words that must not matter: the list in `neutral.txt`, then WordNet's most common ones that name nothing."""
    listed = (HERE / "neutral.txt").read_text().split()
    common = sorted(net.counts, key=lambda key: (-net.counts[key], key))
    inflected = [form for word, kind in common[:most] for form in _forms(word, kind)]
    return [
        word
        for word in dict.fromkeys(simple(w) for w in listed + inflected)
        if word and " " not in word and word not in named
    ]


def _forms(word, kind):
    """A word as captions have it: verbs also as -s, -ing and -ed."""
    if kind != 2:
        return [word]
    stem = word[:-1] if word.endswith("e") else word
    return [word, plural(word, {}), stem + "ing", stem + "ed"]
