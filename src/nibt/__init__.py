"""Explanations of image-text models: which parts of an image and which words of a caption make a model match them.

Explain pairs:
    explain, explain_ranking, rank     maps and word scores of images with captions; ranked labels or images
    compare                            which parts of two images, or words of two captions, make them similar
    replace_words                      by how much the similarity changes if a word is replaced
    regions               which words go with which parts of an image
    contributions, explain_embeddings  maps of one image for many captions or embeddings
    explain_answer                     what each word of a generated answer took from the image, the prompt and the
                                       words before it
    attentions                         the attention weights of the words of an answer, by layer and head
    explain_slide                      one map of a whole slide, tile by tile
    decompose                          the similarity as a sum over layers, heads and patches or tokens
    name_heads, ablate_heads           names of heads from texts; a test of decompositions
    batch                              explanations of many pairs, in a folder of Parquet files

Models:
    load_model, calibrate              load a model by its name, folder or object; compute its mean states
    Model, Tower                       a loaded model and its two encoders
    load_generator, Generator          load a model that writes text about an image
    check_server                       what a server of such a model offers, and whether it serves your model

Inputs and results:
    Caption, Pair, Dataset             inputs
    Explanation, Regions, AnswerExplanation, AnswerAttentions, SlideExplanation, Contributions, Attribution,
    Decomposition, HeadName, HeadAblation, Replacement, Job     results
    MapRegion, to_coco, to_frame       regions of maps, also as COCO annotations; pandas DataFrames
    save, draw, show, to_html, Panel   files of any format, pictures, pages in a notebook or in a page of your own
    draw_links                         a figure of the strongest links from words to parts of an image

Measure and audit:
    measure, roar, audit               metrics of maps and of regions, retraining without removed inputs, an audit of a
                                       model
    audit_answers                      an audit of a generator
    check                              explanations with three or four checks each
    decisive_region                    a small part of a map that keeps, or changes, what the model decides
    parts, word_parts, used_share      what a model looks at over a data set, and how much that decides
    part_scores                        how much of the score of one image such parts carry
    benchmark, write_report            a benchmark from a plan, and its report
    write_paper, cite                  what a paper needs of a benchmark; what to cite, in BibTeX
    Measurement, Plan, Roar, Audit, Parts, WordParts, UsedShare     their inputs and results

Extend:
    method                             a function of a state and its gradient as a method
    available, Method, Metric, Target  the names of all plugins, and the base classes; also Family

All errors that nibt raises are subclasses of NibtError. ``help(nibt.explain)`` shows the documentation of a function.
"""

import sys
from importlib.metadata import version
from typing import Any

import lazy_loader

_attribute, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    try:
        return _attribute(name)
    except ModuleNotFoundError as error:
        from nibt.errors import missing_part

        raise missing_part(error) or error from None


__version__ = version("nibt")


def __dir__() -> list[str]:
    """Return the public names, for ``dir`` and tab completion."""
    return [*__all__, "__version__"]


def _register_displays() -> None:
    """Let a running IPython shell display results as pages and pictures. Nothing that draws is imported here."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        from nibt.report.displays import register

        register(shell)


_register_displays()
