"""Loading of generators, checked as all models are: cut at any layer, they give their own logits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nibt.data.images import ImageInput
from nibt.errors import BadOption, CannotLoad, Unsupported
from nibt.generators.answers import AnswerTower, Generator
from nibt.generators.base import writer_of
from nibt.generators.writing import check_settings
from nibt.models._adapters import adapted, base_model, within_layers
from nibt.models._checkpoint import check_class
from nibt.models._checks import check_finite, naming_hooks, seeded_noise
from nibt.models._classes import declared, family_of_generator, has_code, known_checkpoint, read_by
from nibt.models._compiled import uncompiled
from nibt.models._embedded import EMBEDDED, embedded, embedded_generators, embedded_hint
from nibt.models._failures import loading
from nibt.models._family import class_names
from nibt.models._hub import Wants, model_folder
from nibt.models._hugging_face import read_processor
from nibt.models._in_memory import check_part, check_processor, check_usable
from nibt.models._inputs import Inputs
from nibt.models._kinds import WRITES, kind_of, writes
from nibt.models._names import hub_name, is_address, open_clip_name
from nibt.models._placement import check_placement
from nibt.models._precision import check_quantized
from nibt.models._request import (
    GenerationOptions,
    LoadRequest,
    check_device,
    check_loading,
    check_no_variant,
    check_source,
    check_unset,
    check_variant,
    name_of_device,
    name_of_dtype,
)
from nibt.models._saved import ADAPTERS, check_files, check_layers, json_object
from nibt.models.base import Model
from nibt.options import field_types
from nibt.preprocessing.images import Processor
from nibt.progress import report_stage
from nibt.records import JsonObject
from nibt.registry import find, kinds
from nibt.torch_modes import plain_torch

_LARGEST_ERROR = 1e-4  # of log-probabilities, replayed from a layer
_REFUSED = {
    "Llama4ForConditionalGeneration": "its own forward pass fails in Transformers 5.24, also without an image",
    "Phi4MultimodalForCausalLM": "its image encoder is a part of its decoder, from which nibt cannot separate it",
    "DeepseekOcr2ForConditionalGeneration": "its image encoder returns queries, which have no place on the page",
    "UdopForConditionalGeneration": "it reads words with their boxes, which another program found, and drops the "
    "patches of the page under them",
}
"""Why answers of a class of Transformers are not explained."""


@plain_torch()
def load_generator(
    id: str | Path | nn.Module | Generator,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    processor: Processor = None,
    generation: Literal["greedy", "model"] = "greedy",
    variant: str | None = None,
    **server: Any,
) -> Generator:
    """Load a model that writes text about an image, such as LLaVA or Qwen-VL.

    A model in memory is used as it is: nibt neither moves nor changes it. A model behind a server is not loaded: it is
    asked when an answer is explained (guide *My model is behind an address*).

    Args:
        id: The embedded generator (``"scenes_generator"``), a folder with a model of Transformers, a CoCa of OpenCLIP
            or PEFT adapters, its name on a hub, a model in memory, or the address of a server, such as
            ``"http://localhost:8000/v1"``.
        device: The device of a loaded model.
        dtype: The dtype of the weights of a loaded model: float32, float16 or bfloat16. nibt computes in float32.
        processor: The processor of a model in memory. For a folder without one, such as a checkpoint of a Trainer, also
            the name or the folder of the model whose processor is used.
        generation: How the model writes. ``greedy`` takes the most probable token at each position, and ends at the end
            tokens of the model's ``generation_config.json``. ``model`` writes as the model's
            ``generate(do_sample=False)`` does, with all settings of that file, such as ``num_beams`` and
            ``repetition_penalty``.
        variant: Which weights of a folder or a repository are loaded, as in Transformers: ``"fp16"`` reads
            ``model.fp16.safetensors`` in place of ``model.safetensors``. They are converted to ``dtype``.
        **server: Options of a model behind a server. ``name`` is that of the model on the server, and is needed;
            ``key_env`` names the environment variable that has the key. ``image_size`` is the side of the square whose
            area sent images have, in pixels (224), and ``cells`` the number of rows and of columns of a map of a
            square image (8). ``requests`` and ``tokens`` limit what is sent, and ``folder`` keeps finished requests, so
            that a call that was stopped goes on. ``sources="image"`` explains the image alone, with fewer requests.
            ``way="samples"`` is for servers without log-probabilities, of which ``draws`` answers (8) are drawn.
            ``at_once`` (4), ``timeout`` (60 seconds), ``tries`` (4), ``top`` (20 tokens that are shown at each place)
            and other values of ``way`` (how answers are scored) are for servers that need others.

    Raises:
        CannotLoad: There is no such model, it writes no text, or it fails a check: it has NaN or missing weights, or
            its parts do not give the log-probabilities of the whole model.
        BadOption: ``device`` or ``dtype`` is not allowed, or an option of a server is set for another model.
        UnknownName: No option has that name.
        Unsupported: A package is missing that calls servers.

    Examples:
        >>> load_generator("http://localhost:8000/v1", name="my-llava", image_size=336).id
        'my-llava'
    """
    others = {"processor": processor, "generation": generation, "variant": variant}
    if is_address(id):
        check_unset("a model behind a server", device=device, dtype=dtype, **others)
        return _server_loader().load(str(id), **server)
    if server:
        check_loading(server, GenerationOptions, *_server_loader().options())
        raise BadOption(
            f"{', '.join(server)} {'is' if len(server) == 1 else 'are'} for a model behind a server, whose address "
            f"begins with http:// or https:// (got {id!r:.60}): give the address, or leave it out"
        )
    if isinstance(id, Generator):
        check_unset("a loaded generator", device=device, dtype=dtype, **others)
        return id if "checked" in id.renewed().kept else _checked(id)
    if isinstance(id, Model):
        raise CannotLoad(_no_generator(id.id))

    check_source(id)
    processor, tokenizer = read_processor(processor)
    options = GenerationOptions(name_of_device(device), name_of_dtype(dtype), generation)
    check_device(options.device)
    number_type = getattr(torch, options.dtype)
    check_variant(variant)
    request = LoadRequest(number_type, processor=processor, tokenizer=tokenizer, generation=generation, variant=variant)

    if isinstance(id, nn.Module):
        check_unset("a model in memory", device=device, dtype=dtype, variant=variant)
        return _checked(_from_memory(id, request))

    name = str(id)
    folder = EMBEDDED / name if name in embedded_generators() else Path(name)
    if name in embedded():
        raise CannotLoad(_no_generator(name))
    if not name.strip() or folder.is_file():
        problem = "is a file" if name.strip() else "is empty"
        raise CannotLoad(f"a generator must be a name or the folder of a saved model ({name!r} {problem})")
    if folder.is_dir():
        return _checked(_from_folder(name, folder, request, device))
    return _checked(_by_name(name, request, device))


def loading_options(source: object) -> Mapping[str, Any]:
    """Return the types of the options with which a generator is loaded, as far as they are texts and numbers."""
    return _server_loader().options() if is_address(source) else field_types(GenerationOptions)


def _server_loader() -> Any:
    """Return what loads models behind servers, which is in another part of nibt."""
    if "server" not in kinds("loaders"):
        raise Unsupported("this installation of nibt lacks what calls servers: install the whole package again")
    return find("loaders", "server")


def _by_name(name: str, request: LoadRequest, device: str | torch.device) -> Generator:
    """Load a generator of OpenCLIP by its tag, or one on a hub."""
    weights = open_clip_name(name)
    if weights is not None and not weights.startswith("hf-hub:"):
        return _load(name, "open_clip", weights, request, device)

    place = hub_name(name if weights is None else weights)
    if place is None:
        raise CannotLoad(f"there is no model {name!r}, and no folder of that name.{embedded_hint(name)}".rstrip("."))

    with loading(name):
        wants = Wants(lambda config: _family_of(name, config), open_clip=weights is not None)
        folder, commit = model_folder(place, request, wants)

    return _from_folder(name, folder, replace(request, facts={"revision": commit}), device)


def _from_folder(name: str, folder: Path, request: LoadRequest, device: str | torch.device) -> Generator:
    domain = json_object(folder / "generator.json").get("domain")  # of an embedded generator
    if isinstance(domain, str):
        request = replace(request, notes=(*request.notes, domain))

    if (folder / ADAPTERS).exists():
        return _with_adapters(name, folder, request, device)
    if (folder / "open_clip_config.json").exists():
        return _load(name, "open_clip", f"local-dir:{folder}", request, device)

    check_settings(folder)
    config = json_object(folder / "config.json")
    check_layers(name, folder)
    check_files(name, folder, config, request.variant)
    if not config:
        raise CannotLoad(f"{name!r} is not the folder of a model of Transformers: it has no config.json")
    return _load(name, _family_of(name, config), str(folder), request, device)


def _load(name: str, family: str, source: str, request: LoadRequest, device: str | torch.device) -> Generator:
    """Load the generator of a family from a folder, or by its name."""
    if family == "open_clip":
        check_no_variant(name, request.variant, "OpenCLIP")
    with loading(name, Path(source.removeprefix("local-dir:"))):
        report_stage("importing libraries and reading its weights")
        module, request = writer_of(family).load(source, request)
        if family_of_generator(class_names(module)) is None:
            raise CannotLoad(_no_generator(name))
        return _generator(name, family, module.eval().requires_grad_(False).to(device), request)


def _with_adapters(name: str, folder: Path, request: LoadRequest, device: str | torch.device) -> Generator:
    """Load PEFT adapters on the base model that their configuration names."""
    check_no_variant(name, request.variant, "PEFT")
    with base_model(name, folder) as base:
        if any((folder / file).exists() for file in ("processor_config.json", "preprocessor_config.json")):
            from nibt.models._hugging_face import with_joint_processor

            request = with_joint_processor(str(folder), request, "load_generator")
        plain = load_generator(base, dtype=request.dtype, processor=request.processor, generation=request.generation)

    with loading(name):
        module = adapted(name, folder, plain.module).to(device)
    request = replace(request, processor=plain.request.processor, tokenizer=plain.request.tokenizer)
    return _generator(name, plain.family, module, request)


def _from_memory(module: nn.Module, request: LoadRequest) -> Generator:
    for submodule in module.modules():
        check_part(submodule)
    module = uncompiled(module)
    if type(module).__name__.startswith("Peft"):
        module = within_layers(module)
    name = f"{type(module).__name__} in memory"
    family = _family(name, [type(module).__name__, *class_names(module)])
    check_usable(name, module)
    with loading(name):
        check_processor(find("models", family), request)
        return _generator(name, family, module, request)


def _family_of(name: str, config: JsonObject) -> str:
    """Return the name of the family of a generator by the classes that its configuration names."""
    named = config.get("architectures")
    classes = [read_by(str(class_name)) for class_name in named] if isinstance(named, list) else []
    check_class(name, {**config, "architectures": classes}, bool(known_checkpoint(name)) or has_code(classes))
    if not classes:
        raise CannotLoad(f"the config.json of {name!r} names no class in architectures: save the model again")
    return _family(name, classes, config.get("model_type"))


def _family(name: str, classes: Sequence[str], model_type: object = None) -> str:
    """Return the name of the family of a generator by the name of its class, and those of its base classes."""
    if (family := family_of_generator(classes)) is None:
        raise CannotLoad(_no_generator(name, classes, model_type))
    return family


def is_generator(folder: Path) -> bool:
    """Return whether a folder has a model of a class that writes text."""
    named = json_object(folder / "config.json").get("architectures") or []
    return family_of_generator(map(read_by, named)) is not None


def _no_generator(name: str, classes: Sequence[str] = (), model_type: object = None) -> str:
    """Return why a model is no generator: it compares images with captions, or its class is not supported."""
    rows = declared().values()
    if not classes or any(not {*classes}.isdisjoint(row.classes) for row in rows):
        return (
            f"{name!r} writes no text about images, so it has no answer to explain: use a model that does, such as "
            "scenes_generator, or explain images with captions instead"
        )

    if reason := next((_REFUSED[each] for each in classes if each in _REFUSED), ""):
        return (
            f"{name!r} is of the class {classes[0]}, whose answers nibt cannot explain: {reason}. If a server runs it, "
            "give its address, and nibt explains it by changed images"
        )

    kind = kind_of(classes, model_type)
    if kind is None or kind == WRITES:
        return f"{name!r} is of the class {classes[0]}, which is not supported: {writes(classes, model_type)}"
    return (
        f"{name!r} is of the class {classes[0]}, which {kind.does}, and writes no text about images; {WRITES.instead}"
    )


def _generator(name: str, family: str, module: nn.Module, request: LoadRequest) -> Generator:
    check_quantized(name, module)
    check_finite(name, module)
    return Generator(name, family, module, writer_of(family).tower(module, request), request=request)


def _checked(generator: Generator) -> Generator:
    """Compare the logits of the cut and the uncut model on a seeded image, at three layers."""
    report_stage("checking its tower")
    with naming_hooks(generator.module), loading(generator.id):
        tower = generator.answers
        inputs = tower.example_inputs(ImageInput(seeded_noise(), "seeded noise"), tower.example_prompt)
        for layer, error in replay_errors(tower, inputs).items():
            if not error <= _LARGEST_ERROR:  # also for NaN
                place = "its states" if layer is None else f"layer {layer} of {tower.depth}"
                raise CannotLoad(
                    f"the model {generator.id!r} cannot be cut: computed from {place}, log-probabilities differ from "
                    f"those of the uncut model by {error:.2g} (must be at most {_LARGEST_ERROR})"
                )
        check_placement(generator.id, tower, seeded_noise(), partial(tower.example_inputs, prompt=tower.example_prompt))

    generator.renewed().kept["checked"] = True
    return generator


def replay_errors(tower: AnswerTower, inputs: Inputs) -> dict[int | None, float]:
    """Return the largest error of log-probabilities of a tower, uncut (None) and cut at each of three layers."""
    trace = tower.trace(inputs)
    expected = tower.own_logits(inputs).log_softmax(-1)
    errors: dict[int | None, float] = {}
    for layer in (None, *sorted({0, tower.depth // 2, tower.depth})):
        states = trace.embedding
        with torch.no_grad():
            if layer is not None:
                cut = trace.cut(layer)
                states = cut.rest(torch.stack([cut.hidden, cut.hidden]))[1]
            errors[layer] = (tower.logits(states).log_softmax(-1) - expected).abs().max().item()

    return errors
