"""Hugging Face's image processor against a second implementation of the same steps with Pillow and NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image

from efficientformer_edu import preprocess
from efficientformer_edu.hf import BatchFeature, EfficientFormerImageProcessor

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
BYTES = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
PHOTO = Image.fromarray(BYTES)


def values(images, **options):
    """The pixels of the first image, channels first."""
    return EfficientFormerImageProcessor()(images, **options)["pixel_values"][0]


def expected(image, size=(224, 224), resample=Image.Resampling.BICUBIC):
    pixels = np.asarray(image.resize(size, resample)).astype(np.float64) / 255
    return ((pixels.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def grace():
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB")


def test_squashed_by_default(grace):
    inputs = EfficientFormerImageProcessor()(grace, return_tensors="pt")
    assert inputs.pixel_values.shape == (1, 3, 224, 224)
    assert inputs.pixel_values.dtype == torch.float32
    np.testing.assert_array_equal(inputs.pixel_values[0].numpy(), expected(grace))
    torch.testing.assert_close(inputs.pixel_values, preprocess(grace, rule="hf"), rtol=0, atol=1e-6)


def test_the_published_files_keep_the_proportions(grace):
    inputs = EfficientFormerImageProcessor(size={"shortest_edge": 256})(grace, return_tensors="np")
    assert grace.size == (512, 600)
    full = expected(grace, (256, 300))
    np.testing.assert_array_equal(inputs["pixel_values"][0], full[:, 38:262, 16:240])


@pytest.mark.parametrize("to", [np.asarray, torch.tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("first", [True, False], ids=["channels first", "channels last"])
def test_arrays_and_tensors(to, dtype, first):
    image = BYTES.astype(dtype)
    if dtype == np.float64:
        image = image / 255
        options = {"do_rescale": False}  # fractions stay fractions
    else:
        options = {}
    image = image.transpose(2, 0, 1) if first else image
    np.testing.assert_allclose(values(to(image), **options), expected(PHOTO), atol=3e-7)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pillow_images_become_rgb(mode):
    image = PHOTO.convert(mode)
    np.testing.assert_array_equal(values(image), expected(image.convert("RGB")))


def test_lists_and_what_comes_back():
    processor = EfficientFormerImageProcessor()
    arrays = processor([PHOTO, BYTES])["pixel_values"]
    assert [type(array) for array in arrays] == [np.ndarray, np.ndarray]
    assert np.array_equal(arrays[0], arrays[1])
    assert processor([PHOTO, BYTES], return_tensors="np")["pixel_values"].shape == (2, 3, 224, 224)
    assert processor((PHOTO, BYTES), return_tensors="pt").pixel_values.shape == (2, 3, 224, 224)


def test_formats():
    last = values(PHOTO, data_format="channels_last")
    np.testing.assert_array_equal(last, expected(PHOTO).transpose(1, 2, 0))
    np.testing.assert_array_equal(values(BYTES, data_format=None), last)
    np.testing.assert_array_equal(values(BYTES.transpose(2, 0, 1), data_format=None), expected(PHOTO))
    with pytest.warns(UserWarning, match=r"shape \(3, 5, 3\) are taken to be first"):
        first = values(BYTES[:3, :5])
    np.testing.assert_array_equal(values(BYTES[:3, :5], input_data_format="channels_first"), first)
    assert not np.array_equal(values(BYTES[:3, :5], input_data_format="channels_last"), first)


def test_every_step_can_be_left_out():
    none = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    raw = BYTES.transpose(2, 0, 1)
    assert values(PHOTO, **none).dtype == np.uint8
    np.testing.assert_array_equal(values(PHOTO, **none), raw)
    np.testing.assert_array_equal(
        values(PHOTO, **none | {"do_resize": True, "size": {"height": 30, "width": 41}, "resample": 0}),
        np.asarray(PHOTO.resize((41, 30), Image.Resampling.NEAREST)).transpose(2, 0, 1),
    )
    np.testing.assert_array_equal(
        values(PHOTO, **none | {"do_rescale": True, "rescale_factor": 2}), raw.astype(np.float32) * 2
    )
    np.testing.assert_array_equal(
        values(PHOTO, **none | {"do_normalize": True, "image_mean": 1, "image_std": [1, 2, 4]}),
        (raw.astype(np.float32) - 1) / np.float32([1, 2, 4])[:, None, None],
    )


def test_crop_and_what_is_missing_is_zero():
    only = {"do_resize": False, "do_rescale": False, "do_normalize": False}
    raw = BYTES.transpose(2, 0, 1)  # 37×53
    np.testing.assert_array_equal(values(PHOTO, **only, crop_size=20), raw[:, 8:28, 16:36])
    cropped = values(PHOTO, **only, crop_size=(40, 50))
    assert cropped.shape == (3, 40, 50)
    np.testing.assert_array_equal(cropped[:, 2:39], raw[:, :, 1:51])
    assert not cropped[:, :2].any()
    assert not cropped[:, 39:].any()


def test_an_option_of_a_call_goes_before_that_of_the_processor():
    processor = EfficientFormerImageProcessor(size=64, do_center_crop=False, do_normalize=False)
    assert processor(PHOTO)["pixel_values"][0].shape == (3, 64, 64)
    assert processor(PHOTO, size=(32, 48))["pixel_values"][0].shape == (3, 32, 48)
    assert processor.size == {"height": 64, "width": 64}
    np.testing.assert_array_equal(processor(PHOTO, size=224, do_normalize=True)["pixel_values"][0], expected(PHOTO))
    assert processor.preprocess(PHOTO).keys() == {"pixel_values"}


def test_grey_arrays_have_a_single_mean():
    grey = BYTES[..., :1]
    assert values(grey, image_mean=0.5, image_std=0.5).shape == (1, 224, 224)
    with pytest.raises(ValueError, match=r"image_mean=\(0.485, .* is not possible; allowed: 1 numbers"):
        values(grey)


def test_rescaling_fractions_warns():
    with pytest.warns(UserWarning, match="already between 0 and 1") as caught:
        values(BYTES / 255)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("photo.jpg", {}, "the image is str; allowed: a Pillow image, or an array"),
        ([], {}, "images are none"),
        (BYTES[..., 0], {}, r"the image is ndarray of shape \(37, 53\); allowed"),
        (BYTES[None], {}, r"shape \(1, 37, 53, 3\); allowed"),
        (BYTES[:0], {}, r"shape \(0, 53, 3\)"),
        (np.zeros((8, 8, 5), np.uint8), {}, "; set input_data_format"),
        (np.zeros((8, 8, 5), np.uint8), {"input_data_format": "channels_last"}, "with 5 channels cannot be resized"),
        (BYTES.astype(int) * 2, {}, "from 0 to 510 with 3 channels cannot be resized"),
        (BYTES / 100, {}, "cannot be resized; allowed: whole numbers from 0 to 255 or fractions"),
        (PHOTO, {"return_tensors": "tf"}, "return_tensors='tf' is not possible; allowed: 'pt', 'np' or None"),
        (PHOTO, {"data_format": "none"}, "data_format='none' is not possible; allowed: channels_first"),
        (PHOTO, {"input_data_format": "none"}, "input_data_format='none'"),
        (PHOTO, {"size": {"longest_edge": 4}}, "size={'longest_edge': 4} is not possible; allowed"),
        (PHOTO, {"size": 0}, "size=0 is not possible"),
        (PHOTO, {"size": {"height": 0, "width": 2}}, r"size\['height'\]=0 is not possible"),
        (PHOTO, {"crop_size": {"shortest_edge": 4}}, "crop_size={'shortest_edge': 4} is not possible"),
        (PHOTO, {"resample": 9}, "resample=9 is not possible"),
        (PHOTO, {"do_resize": "yes"}, "do_resize='yes' is not possible; allowed: True or False"),
        (PHOTO, {"rescale_factor": "1"}, "rescale_factor='1' is not possible"),
        (
            [PHOTO, PHOTO.resize((9, 9))],
            {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"},
            r"the images have the shapes \(3, 9, 9\), \(3, 37, 53\)",
        ),
    ],
)
def test_what_it_cannot_take(images, options, message):
    with pytest.raises(ValueError, match=message):
        EfficientFormerImageProcessor().preprocess(images, **options)


def test_a_misspelt_option():
    with pytest.raises(TypeError, match="do_resise"):
        EfficientFormerImageProcessor()(PHOTO, do_resise=True)


def test_inputs_are_a_dictionary_with_names():
    inputs = EfficientFormerImageProcessor()(PHOTO, return_tensors="pt")
    assert isinstance(inputs, dict)
    assert inputs.pixel_values is inputs["pixel_values"]
    with pytest.raises(AttributeError, match="there is no 'pixels'; there is pixel_values"):
        _ = inputs.pixels
    assert inputs.to("cpu", torch.float64).pixel_values.dtype == torch.float64
    assert BatchFeature(label="cat").to(torch.float64) == {"label": "cat"}


def test_a_file_and_back(tmp_path):
    processor = EfficientFormerImageProcessor(size={"shortest_edge": 99}, resample=2, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path / "new")
    content = json.loads((tmp_path / "new/preprocessor_config.json").read_text(encoding="utf-8"))
    assert content["image_processor_type"] == "EfficientFormerImageProcessor"
    assert content["size"] == {"shortest_edge": 99}
    back = EfficientFormerImageProcessor.from_pretrained(tmp_path / "new")
    assert back.to_dict() == processor.to_dict()
    assert EfficientFormerImageProcessor.from_pretrained(tmp_path / "new", size=64).size == {"height": 64, "width": 64}
    with pytest.raises(ValueError, match="Did you mean 'size'"):
        EfficientFormerImageProcessor.from_pretrained(tmp_path / "new", sise=64)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder has no preprocessor_config.json"):
        EfficientFormerImageProcessor.from_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text("<html>")
    with pytest.raises(ValueError, match=r"preprocessor_config.json: not a JSON file"):
        EfficientFormerImageProcessor.from_pretrained(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="it holds list, not a mapping"):
        EfficientFormerImageProcessor.from_pretrained(tmp_path)
    path.write_text('{"do_resize": false, "crop_pct": 0.9}')
    with pytest.warns(UserWarning, match="these fields of the file have no effect: crop_pct"):
        assert not EfficientFormerImageProcessor.from_pretrained(tmp_path).do_resize
