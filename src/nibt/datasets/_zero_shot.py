"""The captions and the names of classes by which CLIP was evaluated on ImageNet, as open_clip ships them."""


def openai_templates() -> tuple[str, ...]:
    """Return the 80 captions of a class, each with ``{}`` in place of its name."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def openai_names() -> tuple[str, ...]:
    """Return the names of the 1,000 classes, in the order of their sorted synsets."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)
