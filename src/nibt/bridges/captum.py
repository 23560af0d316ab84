"""nibt's methods as attributions of captum."""

from captum.attr import Attribution
from captum.log import log_usage  # pyright: ignore
from torch import Tensor

from nibt.bridges.classifier import Pixels, Targets, ZeroShotClassifier
from nibt.errors import BadInput
from nibt.registry import MethodSpec


class MapAttribution(Attribution):
    """A method of nibt as an ``Attribution`` of captum, so that ``NoiseTunnel`` and captum's metrics take it.

    Args:
        forward_func: A classifier.
        method: The method, as in ``explain``.
        **options: Options of the method.

    Examples:
        >>> classifier = ZeroShotClassifier("lite", ["a cat", "a cup of coffee"])
        >>> pixels = classifier.prepare(["sample:collage"])
        >>> MapAttribution(classifier, "nib").attribute(pixels, target=0).shape == pixels.shape
        True
    """

    def __init__(self, forward_func: ZeroShotClassifier, method: str | MethodSpec = "nib", **options: object) -> None:
        if not isinstance(forward_func, ZeroShotClassifier):
            raise BadInput(f"forward_func must be a ZeroShotClassifier (got {type(forward_func).__name__})")
        super().__init__(forward_func)
        self.classifier = forward_func
        self.method = method
        self.options = options

    @log_usage()
    def attribute(self, inputs: Pixels | tuple[Pixels], target: Targets = None) -> Tensor | tuple[Tensor]:
        """Compute a score for each value of each pixel.

        Args:
            inputs: Prepared pixels, (batch, channel, height, width), or a tuple of them, as captum's metrics pass them.
            target: The number of a caption, or one for each image; None if there is only one caption.

        Returns:
            The score of each patch, divided equally among its pixels and their channels, so that the sum of an image is
            that of its map. It has the shape of the inputs, and is a tuple if they are.

        Raises:
            BadInput: The target is not the number of a caption, or there are several inputs.
        """
        if isinstance(inputs, tuple):
            if len(inputs) != 1:
                raise BadInput(f"inputs must be one tensor of pixels (got {len(inputs)}): attribute each alone")
            return (self.attribute(inputs[0], target),)  # pyright: ignore

        attribution = self.classifier.explain(inputs, target, self.method, self.options)
        channels = inputs.shape[1]
        return self.classifier.spread(attribution, inputs).expand(-1, channels, -1, -1) / channels
