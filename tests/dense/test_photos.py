"""Photographs from files: their pixels and their size, the right way up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_folders import put
from PIL import Image

from efficientformer_edu.dense.photos import check_photo, read_photo


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_right_way_up(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (20, 30, 3)), exif=exif)
    image = read_photo(path)
    assert check_photo(path) == image.shape[1:] == ((20, 30) if orientation < 5 else (30, 20))


def test_grey_becomes_three_channels(tmp_path):
    path = put(tmp_path / "grey.png", np.arange(12).reshape(3, 4))
    image = read_photo(path)
    assert torch.equal(image, torch.arange(12, dtype=torch.uint8).view(1, 3, 4).expand(3, 3, 4))
    assert image.is_contiguous()


def test_what_is_no_photograph(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.jpg is missing"):
        check_photo(tmp_path / "nothing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for read in (check_photo, read_photo):
        with pytest.raises(ValueError, match="broken.jpg: this is no image, or it is broken"):
            read(tmp_path / "broken.jpg")
