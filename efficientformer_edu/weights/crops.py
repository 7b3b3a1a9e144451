"""How five code bases cut a photograph to the network's size when they evaluate: one set of weights, five accuracies.

How much border is lost, at which scale an object is seen and whether it is squashed all change what the network
answers. So the ports publish different accuracies for the same weights, and a number belongs beside its rule. Released
code: `build_transform` in `util/datasets.py`; it does not use the `crop_pct` of 0.9 in the model's `default_cfg`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from PIL import Image

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Rule:
    """What one code base does between the photograph and the network's square input.

    Attributes:
        size: height and width of the input in pixels, unless another size is asked for.
        crop: the edge of the middle square that is kept, over the edge that the photograph is resized to before.
        squash: whether both edges are resized to the same length, whatever the photograph's shape was; otherwise the
            shorter edge is, and the longer one in proportion.
        filter: the interpolation of the resizing.
        source: where the code base says so.
    """

    size: int
    crop: Fraction
    squash: bool
    filter: Image.Resampling
    source: str

    def cut(self, image: Image.Image, size: int) -> Image.Image:
        """The image as a square of so many pixels; the edge before the crop grows in proportion, rounded down."""
        edge = int(size / self.crop)
        resized = image.resize((edge, edge), self.filter) if self.squash else resize_shorter(image, edge, self.filter)
        return center_crop(resized, size)


RULES = {
    "official": Rule(  # 256, then the middle 224
        size=224,
        crop=Fraction(224, 256),
        squash=False,
        filter=BICUBIC,
        source="build_transform in util/datasets.py",
    ),
    "timm": Rule(  # 235, then the middle 224
        size=224,
        crop=Fraction("0.95"),
        squash=False,
        filter=BICUBIC,
        source="timm 1.0.31: crop_pct in timm/models/efficientformer.py, and timm/data/transforms_factory.py",
    ),
    "mmpretrain": Rule(  # 248, then the middle 224
        size=224,
        crop=Fraction(224, 248),
        squash=False,
        filter=BICUBIC,
        source="mmpretrain 1.2.0: configs/_base_/datasets/imagenet_bs128_poolformer_small_224.py",
    ),
    "hf": Rule(  # 224×224 at once; the crop that follows has nothing left to do
        size=224,
        crop=Fraction(1),
        squash=True,
        filter=BICUBIC,
        source="transformers 4.57.6: the defaults of EfficientFormerImageProcessor",
    ),
    "netspresso": Rule(  # 256×256 at once, which the network takes as it is
        size=256,
        crop=Fraction(1),
        squash=True,
        filter=BILINEAR,
        source="NetsPresso Trainer 1.4: config/augmentation/classification.yaml, and its page of augmentations",
    ),
}


def get_rule(rule: str) -> Rule:
    """The rule of that name. Raises ValueError for another one, with those that exist."""
    if rule not in RULES:
        raise ValueError(f"rule={rule!r} is unknown; use one of {', '.join(RULES)}")
    return RULES[rule]


def resize_shorter(image: Image.Image, edge: int, filter: Image.Resampling) -> Image.Image:
    """The image with its shorter edge at `edge` pixels, the longer one in proportion, rounded down."""
    shorter = min(image.size)
    width, height = (length * edge // shorter for length in image.size)
    return image.resize((width, height), filter)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle size × size pixels; half a pixel goes to the even side, as in torchvision."""
    left, top = (round((length - size) / 2) for length in image.size)
    return image.crop((left, top, left + size, top + size))
