"""How five code bases crop an image for evaluation: one set of weights, five accuracies.

How much of the border is cropped, the scale of the objects and whether the aspect ratio is kept all affect the
prediction. So the ports publish different accuracies for the same weights, and an accuracy is only meaningful with its
rule. Released code: `build_transform` in `util/datasets.py`; it does not use the `crop_pct` of 0.9 in the model's
`default_cfg`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from PIL import Image

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Rule:
    """How one code base converts an image to the network's square input.

    Attributes:
        size: default height and width of the input in pixels.
        crop: edge length of the center crop, relative to the edge length after resizing.
        squash: whether both edges are resized to the same length, ignoring the aspect ratio. If False, the shorter
            edge is resized to it and the longer one in proportion.
        filter: the interpolation of the resizing.
        source: file or documentation that defines the rule.
    """

    size: int
    crop: Fraction
    squash: bool
    filter: Image.Resampling
    source: str

    def cut(self, image: Image.Image, size: int) -> Image.Image:
        """The image as a square of `size` pixels. The edge before the crop scales with `size`, rounded down."""
        edge = int(size / self.crop)
        resized = image.resize((edge, edge), self.filter) if self.squash else resize_shorter(image, edge, self.filter)
        return center_crop(resized, size)


RULES = {
    "official": Rule(  # resize to 256, center crop 224
        size=224,
        crop=Fraction(224, 256),
        squash=False,
        filter=BICUBIC,
        source="build_transform in util/datasets.py",
    ),
    "timm": Rule(  # resize to 235, center crop 224
        size=224,
        crop=Fraction("0.95"),
        squash=False,
        filter=BICUBIC,
        source="timm 1.0.31: crop_pct in timm/models/efficientformer.py, and timm/data/transforms_factory.py",
    ),
    "mmpretrain": Rule(  # resize to 248, center crop 224
        size=224,
        crop=Fraction(224, 248),
        squash=False,
        filter=BICUBIC,
        source="mmpretrain 1.2.0: configs/_base_/datasets/imagenet_bs128_poolformer_small_224.py",
    ),
    "hf": Rule(  # resize to 224×224 directly; the crop that follows has no effect
        size=224,
        crop=Fraction(1),
        squash=True,
        filter=BICUBIC,
        source="transformers 4.57.6: the defaults of EfficientFormerImageProcessor",
    ),
    "netspresso": Rule(  # resize to 256×256 directly, without a crop
        size=256,
        crop=Fraction(1),
        squash=True,
        filter=BILINEAR,
        source="NetsPresso Trainer 1.4: config/augmentation/classification.yaml, and its page of augmentations",
    ),
}


def get_rule(rule: str) -> Rule:
    """The rule of this name. Raises ValueError for an unknown name that lists the available ones."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is unknown; use one of {', '.join(RULES)}")
    return RULES[rule]


def resize_shorter(image: Image.Image, edge: int, filter: Image.Resampling) -> Image.Image:
    """Resize the shorter edge to `edge` pixels and the longer one in proportion, rounded down."""
    shorter = min(image.size)
    width, height = (length * edge // shorter for length in image.size)
    return image.resize((width, height), filter)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The center size × size pixels; half a pixel is rounded to the even side, as in torchvision."""
    left, top = (round((length - size) / 2) for length in image.size)
    return image.crop((left, top, left + size, top + size))
