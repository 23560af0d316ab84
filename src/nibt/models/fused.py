"""Models that read an image and a text in one network: their own score of a pair, and a family that loads them.

There are no two embeddings to compare. The "embedding" of an image is therefore its pixels, that of a text its
characters, and the similarity runs the model (``FusedScore``). Methods that change inputs explain it, as they do a
model of two functions. The scores are that of a matching head, of one box of a detector, or of a mask.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou, nms

from nibt.data.images import Region
from nibt.data.units import Grid, Units
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported, first_line
from nibt.models._failures import step
from nibt.models._family import Family, class_names
from nibt.models._functions import CELLS, FunctionTower, WordPieceTower
from nibt.models._hugging_face import load_pretrained, load_weights, read_config, with_joint_processor
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest, ScoreChoice
from nibt.models._text_tower import TextTower
from nibt.models._tower import Tower, Trace, part
from nibt.models.base import ImageTower
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import TOKENIZER_LOCK, Tokens
from nibt.preprocessing.images import ImageProcessor, Preparation, Resize
from nibt.targets.base import Others, Similarity
from nibt.types import Embedding, Hidden, OtherEmbedding, PerExample

Boxes = Float[Tensor, "box 4"]
"""Boxes as (left, top, right, bottom), in shares of the input of the model."""
_BLANK = Image.new("RGB", (32, 32), (127, 127, 127))  # a processor of both needs an image to read a text
_IMAGE_INPUTS = ("pixel_values", "pixel_mask", "original_sizes")
_PIXELS = 2**20  # that go through a model together
_MOST_PAIRS = 16
_OVERLAP = 0.5  # of two boxes that are one detection
_KEPT = 64  # boxes or masks of pairs


# The image and the text as they are


@dataclass(frozen=True)
class ProcessorResize(Resize):
    """How a processor resizes images that keep their aspect ratio: sizes are measured with a blank image."""

    processor: ImageProcessor = None
    measured: dict[tuple[int, int, bool], tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        return self._size(image, self._crops)

    @property
    def _crops(self) -> bool:
        return bool(getattr(self.processor, "do_center_crop", False))

    def region(self, image: tuple[int, int]) -> Region:
        """Return the whole image, or the center that is kept of the resized one."""
        seen = self.size(image)
        resized = self._size(image, False)
        across, down = (side * kept / whole for side, kept, whole in zip(image, seen, resized, strict=True))
        return Region((image[0] - across) / 2, (image[1] - down) / 2, across, down)

    def _size(self, image: tuple[int, int], crops: bool) -> tuple[int, int]:
        """Return the width and the height of what the processor makes of an image of a size."""
        key = *image, crops
        if key not in self.measured:
            options = {"do_center_crop": crops} if self._crops else {}
            try:
                pixels = _pixels(self.processor, Image.new("RGB", image), **options)
            except (ValueError, RuntimeError, ZeroDivisionError) as error:
                raise BadInput(
                    f"the processor of the model cannot resize an image of {image[0]:,} x {image[1]:,} pixels "
                    f"({first_line(error)}): crop it"
                ) from error
            self.measured[key] = pixels.shape[-1], pixels.shape[-2]

        return self.measured[key]


def _pixels(processor: ImageProcessor, image: Image.Image, **options: object) -> Float[Tensor, "channel row column"]:
    return processor(images=image, return_tensors="pt", **options)["pixel_values"][0]


def _preparation(request: LoadRequest) -> Preparation:
    """Return how a model's own processor prepares images, of one size or with their aspect ratio."""
    processor = request.image_processor
    if request.resize == "whole" or request.image_size:
        raise Unsupported(
            "resize and image_size cannot be set for a model that reads an image and a text in one network: it takes "
            "images as its processor prepares them; leave both out"
        )

    size = processor.size
    if size.get("height") and size.get("width"):
        return hugging_face.image_preparation(processor, None, None, 0, None, square=True)

    run = partial(_pixels, processor)
    normalize = partial(_pixels, processor, do_resize=False, do_center_crop=False)
    resize = ProcessorResize("squash", 1, 1, processor=processor)
    return Preparation(resize, run, normalize, blank=hugging_face.blank_value(processor))


class _WholeModelTower(FunctionTower):
    """What the towers of both sides share: the input is the embedding, and the model runs in the score."""

    root: Any
    example = Tower.example  # pyright: ignore
    first_weight = part("example", torch.flatten)  # of which only the device and the dtype count

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        """Return the input, which is the only state."""
        return stream

    def trace(self: Any, inputs: Inputs, lowest: int = 0) -> Trace:
        """Return the inputs as an embedding, without a pass of the model."""
        embedding = self.encode(inputs)
        return Trace(self, inputs, embedding, (), (embedding,))

    def check_states(self, caller: str) -> None:
        raise Unsupported(
            f"{caller} needs two encoders with layers, and this model reads the image and the text in one network: "
            "use explain, or leave this out"
        )


class PixelTower(_WholeModelTower, ImageTower):
    """The pixels of an image, with those of the image before it was changed.

    An embedding has a row for each pixel: its colors, and the colors of the unchanged image. The row before says the
    size of the input (height, width), and the part of the image that it shows (left, top, width, height).
    """

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        self.preparation = _preparation(request)
        self.entry = nn.Identity()

    def prepare(self, items: Sequence[Any]) -> Inputs:
        inputs = super().prepare(items)
        seen = [[region.left, region.top, region.width, region.height] for region in inputs.regions]
        return replace(inputs, extra={"unchanged": inputs.values, "region": inputs.values.new_tensor(seen)})

    def run(self, inputs: Inputs) -> Embedding:
        pixels = inputs.values
        grid = self.grid(inputs)
        self.entry(F.adaptive_avg_pool2d(pixels, (grid.rows, grid.columns)).flatten(2).mT)  # where cells are checked

        size = inputs.extra["region"].new_tensor(pixels.shape[-2:]).expand(len(pixels), -1)
        first = torch.cat([size, inputs.extra["region"]], 1)[:, None]
        colors = torch.cat([pixels, inputs.extra["unchanged"]], 1).flatten(2).mT
        return torch.cat([first.to(colors), colors], 1)

    def grid(self, inputs: Inputs) -> Grid:
        """Return cells that are about square, and about eight a side."""
        height, width = self.extent(inputs)
        aspect = (width / height) ** 0.5
        return Grid(max(1, round(CELLS / aspect)), max(1, round(CELLS * aspect)))

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return self.grid(inputs)

    def on_first_tokens(self, see: Any) -> Any:
        return ImageTower.on_first_tokens(self, see)

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        return self.encode(self.blank_inputs(inputs))


class CharacterTower(_WholeModelTower, WordPieceTower):
    """The characters of a text, with those of the text before words were left out.

    An embedding has a row for each character: the number of the character in the text, and in the unchanged text.
    """

    def __init__(self, root: nn.Module, request: LoadRequest, score: "type[FusedScore]") -> None:
        super().__init__(root)
        self.tokenizer = request.text_tokenizer
        self.score = score
        most = score.context(root)
        self.context = min(most, getattr(self.tokenizer, "model_max_length", most))

    def tokens(self, caption: str) -> Tokens:
        with TOKENIZER_LOCK:
            count = len(self.tokenizer(self.score.template.format(caption), verbose=False)["input_ids"])
        if count > self.context:
            raise BadInput(
                f"the caption has {count:,} tokens, and the model takes {self.context:,} (got {caption!r:.60}): "
                "shorten it"
            )
        return super().tokens(caption)

    def run(self, inputs: Inputs) -> Embedding:
        changed = self.texts(self.kept_ids(inputs))
        unchanged = self.texts(inputs.values)
        longest = max(1, *map(len, unchanged), *map(len, changed))
        numbers = [
            [[ord(sign) for sign in text] + [0] * (longest - len(text)) for text in pair]
            for pair in zip(changed, unchanged, strict=True)
        ]
        return torch.tensor(numbers, dtype=torch.float32, device=inputs.values.device).mT

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        with self.blend_to_padding(torch.zeros(inputs.values.shape, dtype=torch.float32, device="cpu")):
            return self.encode(inputs)


def _text(numbers: Tensor) -> str:
    return "".join(chr(int(number)) for number in numbers.tolist() if number)


@dataclass(frozen=True)
class _Seen:
    """One image of an embedding."""

    pixels: Float[Tensor, "channel row column"]
    unchanged: Float[Tensor, "channel row column"]
    region: Region

    @classmethod
    def of(cls, rows: Float[Tensor, "row column"]) -> "_Seen":
        height, width, *seen = rows[0].tolist()
        colors = rows[1 : 1 + int(height) * int(width)].mT.unflatten(1, (int(height), int(width)))
        return cls(*colors.chunk(2), region=Region(*seen))


# The scores


@dataclass(frozen=True)
class FusedScore(Similarity):
    """The score of an image and a text by a model that reads both in one network, seen from one side."""

    tower: ImageTower
    processor: Any
    choice: ScoreChoice
    own_is_text: bool = False
    item_ndim: ClassVar[int] = 2
    target: ClassVar[str] = "score"
    fuses: ClassVar[bool] = True
    kind: ClassVar[str]
    """What the score is of: ``matching``, ``box`` or ``mask``."""
    options: ClassVar[Mapping[str, object]] = {}
    """Arguments of the forward pass."""
    has_softmax: ClassVar[bool] = False
    template: ClassVar[str] = "{}"
    """The text whose tokens are counted."""
    positions: ClassVar[str] = "config.text_config.max_position_embeddings"
    """Where the model says how many tokens it takes."""

    @property
    def name(self) -> str:  # pyright: ignore
        """The score that was chosen, such as ``box:1``."""
        return str(self.choice)

    @classmethod
    def context(cls, root: nn.Module) -> int:
        """Return how many tokens the model takes."""
        value: Any = root
        for name in cls.positions.split("."):
            value = getattr(value, name)
        return value

    def prompt(self, text: str) -> object:
        """Return the text as the processor of the model takes it."""
        return text

    def swapped(self) -> "FusedScore":
        return replace(self, own_is_text=not self.own_is_text)

    def __call__(self, embedding: Embedding, partner: OtherEmbedding) -> PerExample:
        images, texts = (partner, embedding) if self.own_is_text else (embedding, partner)
        places = torch.broadcast_tensors(_places(images), _places(texts))
        pairs = list(zip(places[0].flatten().tolist(), places[1].flatten().tolist(), strict=True))
        seen = images.reshape(-1, *images.shape[-2:])
        read = texts.reshape(-1, *texts.shape[-2:])
        needs_gradient = torch.is_grad_enabled() and (embedding.requires_grad or partner.requires_grad)
        with torch.set_grad_enabled(needs_gradient):
            scores = self._of_pairs(seen, read, pairs)
        return torch.stack(scores).to(embedding.device).reshape(places[0].shape)

    def to_each(self, embedding: Embedding, others: Others) -> Float[Tensor, "*batch other"]:
        return self(embedding.unsqueeze(-3), others)

    def probabilities(self, logits: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return the probabilities of ranked candidates, each by itself."""
        return logits.sigmoid()

    @abstractmethod
    def _of_pairs(self, images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Compute the scores of pairs of a row of the images and a row of the texts."""

    def outputs(self, pairs: Sequence[tuple[Tensor, str]]) -> Iterator[tuple[list[int], Any]]:
        """Run the model on images and texts, and yield the positions of pairs with their outputs.

        Pairs go through it together only if nothing of them is padded, so that no result depends on the others.
        """
        encoded = {text: self._encoded(text) for text in dict.fromkeys(text for _, text in pairs)}
        groups = defaultdict[tuple, list[int]](list)
        for position, (pixels, text) in enumerate(pairs):
            lengths = tuple(
                (*value.shape, int(value.sum()) if "mask" in key else 0) for key, value in encoded[text].items()
            )
            groups[tuple(pixels.shape), lengths].append(position)

        for (shape, _), members in groups.items():
            most = max(1, min(_MOST_PAIRS, _PIXELS // (shape[-1] * shape[-2])))
            for first in range(0, len(members), most):
                positions = members[first : first + most]
                pixels = torch.stack([pairs[position][0] for position in positions])
                texts = [encoded[pairs[position][1]] for position in positions]
                yield positions, self._output(pixels, texts)

    def _output(self, pixels: Float[Tensor, "pair channel row column"], texts: Sequence[Mapping[str, Tensor]]) -> Any:
        """Run the model on images of one size and texts of one length."""
        values = {key: torch.cat([text[key] for text in texts]) for key in texts[0] if key != "pixel_mask"}
        values["pixel_values"] = pixels
        if "pixel_mask" in texts[0]:  # no pixel is padding
            values["pixel_mask"] = torch.ones(pixels[:, 0].shape, dtype=torch.long, device=pixels.device)

        root: Any = self.tower.root
        device = self.tower.example.device
        with self.tower.computing():
            return root(**{key: value.to(device) for key, value in values.items()}, **self.options)

    def _encoded(self, text: str) -> dict[str, Tensor]:
        """Return what the processor makes of a text: the ids of its tokens, a mask, and others."""
        with TOKENIZER_LOCK:
            encoded = self.processor(images=_BLANK, text=self.prompt(text), return_tensors="pt")
        kept = {key: value for key, value in encoded.items() if key not in _IMAGE_INPUTS}
        if "pixel_mask" in encoded:
            kept["pixel_mask"] = torch.ones(1)
        return kept


def _places(embedding: Tensor) -> Tensor:
    """Return the number of each item of an embedding with dimensions before those of the item."""
    shape = embedding.shape[:-2]
    return torch.arange(shape.numel(), device="cpu").reshape(shape)


# Matching heads


class MatchingScore(FusedScore):
    """The logit, or the log-odds, with which a matching head says that a text is of an image."""

    kind = "matching"
    has_softmax = True

    def match(self, out: Any) -> PerExample:
        """Return the logits of pairs: the log-odds of a head with two outputs, of which the second means a match."""
        return out.logits[:, 1] - out.logits[:, 0]

    def _of_pairs(self, images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        seen = {row: _Seen.of(images[row]).pixels for row in {row for row, _ in pairs}}
        read = {row: _text(texts[row, :, 0]) for row in {row for _, row in pairs}}
        scores: dict[int, Tensor] = {}
        for positions, out in self.outputs([(seen[image], read[text]) for image, text in pairs]):
            scores |= dict(zip(positions, self.match(out).float(), strict=True))
        return [scores[position] for position in range(len(pairs))]


class BLIPMatching(MatchingScore):
    """``BlipForImageTextRetrieval`` with ``use_itm_head=True``."""

    def match(self, out: Any) -> PerExample:
        return out.itm_score[:, 1] - out.itm_score[:, 0]


class BLIP2Matching(MatchingScore):
    """``Blip2ForImageTextRetrieval`` with ``use_image_text_matching_head=True``."""

    options: ClassVar = {"use_image_text_matching_head": True}
    positions = "config.qformer_config.max_position_embeddings"

    def match(self, out: Any) -> PerExample:
        return out.logits_per_image[:, 1] - out.logits_per_image[:, 0]


class BridgeTowerMatching(MatchingScore):
    """``BridgeTowerForImageAndTextRetrieval``."""

    @classmethod
    def context(cls, root: nn.Module) -> int:
        config: Any = root.config
        padding = config.text_config.pad_token_id  # RoBERTa counts positions from the one after it
        return config.text_config.max_position_embeddings - padding - 1


class ViLTMatching(MatchingScore):
    """``ViltForImageAndTextRetrieval``, whose head has one output, which is compared among candidates."""

    positions = "config.max_position_embeddings"

    def match(self, out: Any) -> PerExample:
        return out.logits[:, 0]

    def probabilities(self, logits: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        return logits.softmax(0)


# Boxes and masks of the unchanged pair


class SelectedScore(FusedScore):
    """Base class of scores of one box or mask, which the model finds in the unchanged image with the unchanged text.

    The score of a changed pair is that of the same box or mask.
    """

    @abstractmethod
    def select(self, out: Any, seen: _Seen) -> Any:
        """Return the box or the mask of the output for an unchanged pair."""

    @abstractmethod
    def of_selected(self, out: Any, row: int, selected: Any) -> Tensor:
        """Return the score of a box or a mask in the output of a row."""

    def selected(self, seen: _Seen, text: str) -> Any:
        """Return the box or the mask of a pair, which is kept with the model."""
        digest = sha256(seen.unchanged.detach().cpu().float().contiguous().numpy().tobytes())
        digest.update(repr((text, self.choice, seen.region)).encode())
        key = digest.digest()
        kept = self.tower.kept.setdefault("selected", {})
        if key not in kept:
            ((_, out),) = self.outputs([(seen.unchanged, text)])
            while len(kept) >= _KEPT:
                del kept[next(iter(kept))]
            kept[key] = self.select(out, seen)
        return kept[key]

    def _of_pairs(self, images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]]) -> list[Tensor]:
        seen = {row: _Seen.of(images[row]) for row in {row for row, _ in pairs}}
        changed = {row: _text(texts[row, :, 0]) for row in {row for _, row in pairs}}
        unchanged = {row: _text(texts[row, :, 1]) for row in {row for _, row in pairs}}
        with torch.no_grad():
            selected = [self.selected(seen[image], unchanged[text]) for image, text in pairs]

        scores: dict[int, Tensor] = {}
        for positions, out in self.outputs([(seen[image].pixels, changed[text]) for image, text in pairs]):
            for row, position in enumerate(positions):
                scores[position] = self.of_selected(out, row, selected[position]).float()
        return [scores[position] for position in range(len(pairs))]


class BoxScore(SelectedScore):
    """The probability of one box of a detector: the best one, or the one of a number or at a point.

    Detectors find other boxes in a changed image or for a changed text. The score is then the largest product of the
    probability of a box and its overlap (intersection over union) with the chosen box, as of D-RISE (Petsiuk et al.,
    2021).
    """

    kind = "box"

    @abstractmethod
    def boxes(self, out: Any) -> tuple[Float[Tensor, "batch box 4"], Float[Tensor, "batch box"]]:
        """Return all boxes (left, top, right, bottom) and their probabilities."""

    def probabilities(self, logits: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        return logits.clamp(0, 1)  # which are probabilities

    def select(self, out: Any, seen: _Seen) -> Boxes:
        boxes, chances = (values[0].detach().float().cpu() for values in self.boxes(out))
        return boxes[_chosen(boxes, chances, self.choice, seen)][None]

    def of_selected(self, out: Any, row: int, selected: Boxes) -> Tensor:
        boxes, chances = self.boxes(out)
        overlaps = box_iou(selected.to(boxes), boxes[row].float())[0]
        return (overlaps * chances[row]).max()

    def chosen_box(self, image: Embedding, text: OtherEmbedding) -> tuple[float, float, float, float]:
        seen = _Seen.of(image)
        with torch.no_grad():
            left, top, right, bottom = self.selected(seen, _text(text[:, 1]))[0].tolist()
        region = seen.region
        across, down = region.left, region.top
        return (
            across + left * region.width,
            down + top * region.height,
            across + right * region.width,
            down + bottom * region.height,
        )


def _chosen(boxes: Boxes, chances: Float[Tensor, " box"], choice: ScoreChoice, seen: _Seen) -> int:
    """Return the number of the chosen box."""
    if choice.point is not None:
        across = (choice.point[0] - seen.region.left) / seen.region.width
        down = (choice.point[1] - seen.region.top) / seen.region.height
        point = torch.tensor([across, down])
        around: Bool[Tensor, " box"] = ((boxes[:, :2] <= point) & (point <= boxes[:, 2:])).all(1)
        if not around.any():
            raise BadInput(
                f"the model finds no box around the point {choice.point[0]:g},{choice.point[1]:g}: choose a point on "
                "the object, in pixels from the top left corner of the image, or leave the point out for the best box"
            )
        return int(chances.masked_fill(~around, -1).argmax())

    order = nms(boxes, chances, _OVERLAP)  # the best first
    if choice.number >= len(order):
        raise BadInput(
            f"the number of a box must be between 0 and {len(order) - 1} for this image (got {choice.number})"
        )
    return int(order[choice.number])


class OWLBox(BoxScore):
    """``OwlViTForObjectDetection`` and ``Owlv2ForObjectDetection``."""

    def prompt(self, text: str) -> object:
        return [[text]]

    def boxes(self, out: Any) -> tuple[Tensor, Tensor]:
        return box_convert(out.pred_boxes, "cxcywh", "xyxy"), out.logits.amax(-1).sigmoid()


class GroundingDINOBox(BoxScore):
    """``GroundingDinoForObjectDetection`` and ``MMGroundingDinoForObjectDetection``."""

    template = "{}."
    positions = "config.max_text_len"

    def prompt(self, text: str) -> object:
        return text if "." in text else [[text]]  # to which the processor adds a period

    def boxes(self, out: Any) -> tuple[Tensor, Tensor]:
        return box_convert(out.pred_boxes, "cxcywh", "xyxy"), out.logits.sigmoid().amax(-1)


class OmDetBox(BoxScore):
    """``OmDetTurboForObjectDetection``, whose task is ``Detect TEXT.``."""

    template = "Detect {}."

    @classmethod
    def context(cls, root: nn.Module) -> int:
        return 77  # to which its processor cuts texts

    def prompt(self, text: str) -> object:
        return [text]

    def boxes(self, out: Any) -> tuple[Tensor, Tensor]:
        return box_convert(out.decoder_coord_logits, "cxcywh", "xyxy"), out.decoder_class_logits.sigmoid().amax(-1)


class SAM3Box(BoxScore):
    """``Sam3Model``: the probability of an instance times that of the presence of the concept."""

    def boxes(self, out: Any) -> tuple[Tensor, Tensor]:
        return out.pred_boxes, out.pred_logits.sigmoid() * out.presence_logits.sigmoid()


class CLIPSegMask(SelectedScore):
    """``CLIPSegForImageSegmentation``: the mean logit over a mask.

    The mask has the pixels that the model segments in the unchanged image, or one point.
    """

    kind = "mask"

    def select(self, out: Any, seen: _Seen) -> Float[Tensor, "row column"]:
        logits = out.logits[0].detach().float()
        if self.choice.point is None:
            mask = logits >= logits.max().clamp(max=0.0)  # without any such pixel, the highest one
            return mask / mask.sum()

        rows, columns = logits.shape
        row = int((self.choice.point[1] - seen.region.top) / seen.region.height * rows)
        column = int((self.choice.point[0] - seen.region.left) / seen.region.width * columns)
        if not (0 <= row < rows and 0 <= column < columns):
            raise BadInput(
                f"the point {self.choice.point[0]:g},{self.choice.point[1]:g} is outside of what the model sees: "
                "choose one within the image, in pixels from its top left corner"
            )
        mask = torch.zeros_like(logits)
        mask[row, column] = 1
        return mask

    def of_selected(self, out: Any, row: int, selected: Tensor) -> Tensor:
        return (out.logits[row].float() * selected).sum()


SCORES: Mapping[str, type[FusedScore]] = {
    "BlipForImageTextRetrieval": BLIPMatching,
    "Blip2ForImageTextRetrieval": BLIP2Matching,
    "BridgeTowerForImageAndTextRetrieval": BridgeTowerMatching,
    "ViltForImageAndTextRetrieval": ViLTMatching,
    "CLIPSegForImageSegmentation": CLIPSegMask,
    "OwlViTForObjectDetection": OWLBox,
    "Owlv2ForObjectDetection": OWLBox,
    "GroundingDinoForObjectDetection": GroundingDINOBox,
    "MMGroundingDinoForObjectDetection": GroundingDINOBox,
    "OmDetTurboForObjectDetection": OmDetBox,
    "Sam3Model": SAM3Box,
}
"""The score of each class of Transformers."""


def check_score(name: str, classes: Iterable[str], choice: ScoreChoice) -> None:
    """Check that a model of these classes has the score that is asked for."""
    own = {SCORES[name].kind for name in classes if name in SCORES}
    if choice.kind not in own:
        other = f", or of its {' or '.join(sorted(own))} (score={sorted(own)[0]})" if own else ""
        raise BadOption(
            f"score must be a score of the model (got {choice}): {name!r} has none of this kind{other}; leave score "
            "out for its usual score"
        )


class Fused(Family, name="fused"):
    """Models that read an image and a text in one network: matching heads, and detectors that take a text.

    Their score of a pair is explained by methods that change inputs: the logit of a match by the matching heads of
    ViLT, BridgeTower, BLIP and BLIP-2, the probability of a box by Grounding DINO, MM Grounding DINO, OmDet-Turbo,
    SAM 3, OWL-ViT and OWLv2, and the logit of a mask by CLIPSeg. Models that also compare embeddings (BLIP, BLIP-2,
    OWL-ViT, OWLv2, CLIPSeg) are read in this way only with the option ``score``.
    """

    needs_processor = True
    has_logits = False

    @classmethod
    def load(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        import transformers

        config = read_config(source)
        if "Sam3VideoModel" in (config.architectures or ()):
            return cls._load_detector(source, request, config)
        name = next(name for name in config.architectures or () if name in SCORES)
        return load_pretrained(getattr(transformers, name), source, with_joint_processor(source, request))

    @staticmethod
    def _load_detector(source: str, request: LoadRequest, config: Any) -> tuple[nn.Module, LoadRequest]:
        """Load the detector of images from a checkpoint of SAM 3, which has a tracker of videos, too."""
        from transformers import Sam3Model, Sam3Processor

        if request.processor is None:
            with step(source, "its processor cannot be read", "save the processor with the model"):
                request = replace(request, processor=Sam3Processor.from_pretrained(source))
        request = with_joint_processor(source, request)
        module, ignored = load_weights(
            Sam3Model, source, config.detector_config, request.dtype, variant=request.variant
        )
        return module, replace(request, ignored=(*request.ignored, *ignored))

    @classmethod
    def towers(cls, module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        if not hasattr(request.processor, "image_processor") or not hasattr(request.processor, "tokenizer"):
            raise CannotLoad(
                "a model that reads an image and a text in one network needs the processor of both: pass "
                f"processor=AutoProcessor.from_pretrained(...) (got a {type(request.processor).__name__})"
            )
        return PixelTower(module, request), CharacterTower(module, request, _score_of(module))

    @classmethod
    def compares(cls, module: nn.Module, request: LoadRequest, image: ImageTower) -> FusedScore:
        score = _score_of(module)
        choice = request.score or ScoreChoice(score.kind)
        return score(image, request.processor, choice)


def _score_of(module: nn.Module) -> type[FusedScore]:
    """Return the score of a module by its class."""
    names = class_names(module)
    if names.isdisjoint(SCORES):
        raise CannotLoad(
            "of a Sam3VideoModel, only the detector of images is explained: pass model.detector_model with the "
            "processor Sam3Processor, or give the folder"
        )
    return next(score for name, score in SCORES.items() if name in names)
