"""COCO's format: what is read from it, and every kind of entry that is broken."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from dense_folders import HEIGHT, WIDTH, annotation, coco_content, put, square, write_coco
from PIL import Image

from efficientformer_edu.dense.coco import read_coco
from efficientformer_edu.dense.examples import IGNORED


def read(tmp_path, *annotations, strict=True):
    return read_coco(*write_coco(tmp_path / "pets", coco_content(*annotations)), strict)


def test_one_object(tmp_path):
    data = read(tmp_path, annotation(bbox=[4.5, 2, 10, 8]), annotation(image=5, category=90))
    first, second = data
    assert first.image.shape == (3, HEIGHT, WIDTH)
    assert first.boxes.tolist() == [[4.5, 2, 14.5, 10]]
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])  # 7 and 90, in this order
    assert not first.crowd.any()
    assert first.masks[0].nonzero().aminmax(dim=0).min.tolist() == [2, 4]
    assert first.masks.sum() == 10 * 8
    assert torch.equal(first.semantic, first.masks[0].byte())
    assert torch.equal(second.semantic, 2 * second.masks[0].byte())


def test_what_it_is(tmp_path):
    data = read(tmp_path, annotation())
    assert (len(data), data.skipped) == (2, 0)
    assert data.classes == ("cat", "dog")
    assert data.pixel_classes == ("background", "cat", "dog")
    assert repr(data) == "Coco: instances_train2017, 2 images with 1 objects of 2 classes"


def test_pixels_are_those_of_the_file(tmp_path):
    data = read(tmp_path)
    with Image.open(tmp_path / "pets/train2017/two.png") as image:
        assert torch.equal(data[1].image, torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_an_image_without_objects_is_background(tmp_path):
    empty = read(tmp_path)[0]
    assert (empty.boxes.shape, empty.labels.shape, empty.masks.shape) == ((0, 4), (0,), (0, HEIGHT, WIDTH))
    assert (empty.labels.dtype, empty.crowd.dtype) == (torch.int64, torch.bool)
    assert (empty.semantic == 0).all()


def test_the_smaller_of_two_objects_is_in_front(tmp_path):
    """The same whichever is written down first."""
    large = annotation(bbox=[0, 0, 20, 20], segmentation=[square(0, 0, 20, 20)])
    small = annotation(category=90, bbox=[5, 5, 4, 4], segmentation=[square(5, 5, 9, 9)])
    for place, both in enumerate(((large, small), (small, large))):
        semantic = read(tmp_path / str(place), *both)[0].semantic
        assert (semantic[5:9, 5:9] == 2).all()
        assert (semantic == 1).sum() == 400 - 16


def test_crowds_are_ignored_except_where_an_object_is_known(tmp_path):
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 10 * HEIGHT, 20 * HEIGHT]}  # the ten columns on the left
    crowd = annotation(bbox=[0, 0, 10, 20], segmentation=runs, iscrowd=1)
    found = read(tmp_path, annotation(bbox=[4, 2, 3, 3], segmentation=[square(4, 2, 7, 5)]), crowd)[0]
    assert found.crowd.tolist() == [False, True]
    assert found.masks[1].sum() == 10 * HEIGHT
    assert (found.semantic[2:5, 4:7] == 1).all()
    assert (found.semantic == IGNORED).sum() == 10 * HEIGHT - 9
    assert (found.semantic[:, 10:] == 0).all()


@pytest.mark.parametrize("without", [{"segmentation": []}, {"segmentation": None}, "segmentation"], ids=str)
def test_objects_without_an_outline(tmp_path, without):
    """Detection data may have boxes alone: which of their pixels show the object is not known."""
    boxed = annotation(bbox=[4.5, 2, 2, 3])
    boxed.pop(without) if isinstance(without, str) else boxed.update(without)
    found = read(tmp_path, boxed)[0]
    assert found.masks[0].nonzero().aminmax(dim=0).max.tolist() == [4, 6]
    assert torch.equal(found.semantic == IGNORED, found.masks[0])
    assert found.masks.sum() == 3 * 3


def test_boxes_are_cut_at_the_border(tmp_path):
    found = read(tmp_path, annotation(bbox=[-3, 15, 10, 40]))
    assert found[0].boxes.tolist() == [[0, 15, 7, 20]]


def test_a_photograph_that_lies_on_its_side(tmp_path):
    """Its EXIF data say how it is turned; what is written down is the size that one sees."""
    paths = write_coco(tmp_path, coco_content(annotation()))
    exif = Image.Exif()
    exif[0x0112] = 6
    put(paths[1] / "one.jpg", np.zeros((WIDTH, HEIGHT, 3)), exif=exif)
    assert read_coco(*paths, strict=True)[0].image.shape == (3, HEIGHT, WIDTH)


BROKEN = [
    ({"image_id": 2}, "its image_id is none of the images"),
    ({"image_id": "1"}, "its image_id is none of the images"),
    ({"image_id": None}, "its image_id is none of the images"),
    ({"category_id": 1}, "its category_id is none of the categories"),
    ({"category_id": [7]}, "its category_id is none of the categories"),
    ({"bbox": [4, 2, 0, 8]}, "has no area in its image of 20×30 pixels"),
    ({"bbox": [4, 2, 10, -8]}, "has no area"),
    ({"bbox": [30, 2, 10, 8]}, "has no area"),
    ({"bbox": [-10, 2, 10, 8]}, "has no area"),
    ({"bbox": [4, 2, 10]}, r"its bbox is \[4, 2, 10\]; it needs to be \[x, y, width, height\]"),
    ({"bbox": [4, 2, 10, float("nan")]}, "its bbox is"),
    ({"bbox": [4, 2, float("inf"), 8]}, "its bbox is"),
    ({"bbox": [4, 2, 10, "8"]}, "its bbox is"),
    ({"bbox": None}, "its bbox is None"),
    ({"segmentation": [[1, 1, 5, 1, 5]]}, "a polygon has 5 numbers"),
    ({"segmentation": [[1, 1, 5, 1]]}, "a polygon has 4 numbers"),
    ({"segmentation": [[1, 1, 5, 1, 5, float("nan")]]}, "no finite numbers"),
    ({"segmentation": {"size": [20, 30], "counts": [1]}}, "add up to 1 pixels"),
    ({"iscrowd": 2}, "its iscrowd is 2; allowed: 0, 1"),
]


@pytest.mark.parametrize(("fields", "message"), BROKEN)
def test_broken_objects(tmp_path, fields, message):
    both = annotation(), annotation(**fields)
    with pytest.raises(ValueError, match=rf"instances_train2017.json: annotations\[1\]: .*{message}"):
        read(tmp_path, *both, strict=True)
    data = read(tmp_path, *both, strict=False)
    assert (data.skipped, len(data[0].labels)) == (1, 1)
    assert data.words.endswith("2 images with 1 objects of 2 classes, 1 broken entries left out")


def test_an_entry_that_is_no_object_at_all(tmp_path):
    assert read(tmp_path, annotation(), 3, strict=False).skipped == 1


BROKEN_IMAGES = [
    ({"file_name": "three.jpg"}, FileNotFoundError, "three.jpg is missing"),
    ({"file_name": "broken.jpg"}, ValueError, "broken.jpg: this is no image, or it is broken"),
    ({"file_name": "cut.jpg"}, ValueError, "cut.jpg: this is no image, or it is broken"),
    ({"file_name": None}, ValueError, "needs a whole number as id, and a file_name"),
    ({"id": "1"}, ValueError, "needs a whole number as id, and a file_name"),
    ({"height": 0}, ValueError, "height=0 is not possible"),
    ({"width": None}, ValueError, "width=None is not possible"),
    ({"height": 30, "width": 20}, ValueError, "one.jpg has 20×30 pixels; written down are 30×20"),
]


@pytest.mark.parametrize(("fields", "kind", "message"), BROKEN_IMAGES)
def test_broken_images(tmp_path, fields, kind, message):
    """Each is left out with its objects, and counted once."""
    content = coco_content(annotation(), annotation(image=5))
    paths = write_coco(tmp_path, content)
    (paths[1] / "broken.jpg").write_bytes(b"no image")
    (paths[1] / "cut.jpg").write_bytes((paths[1] / "one.jpg").read_bytes()[:-60])
    content["images"][0].update(fields)
    write_coco(tmp_path, content)
    with pytest.raises(kind, match=rf"instances_train2017.json: images\[0\]: .*{message}"):
        read_coco(*paths, strict=True)
    data = read_coco(*paths)
    assert len(data) == 1
    assert data.skipped == 1 + ("id" in fields)  # then its object has no image either
    assert len(data[0].labels) == 1


def broken_file(change):
    content = copy.deepcopy(coco_content(annotation()))
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no list 'images'"),
        ({"images": []}, "has no list 'annotations'; COCO's format has the lists images, annotations, categories"),
        (broken_file(lambda content: content.update(annotations={})), "has no list 'annotations'"),
        (broken_file(lambda content: content.update(categories=[])), "has 0 categories; possible are 1 to 254"),
        (
            broken_file(lambda content: content.update(categories=[{"id": n, "name": str(n)} for n in range(255)])),
            "has 255 categories",
        ),
        (broken_file(lambda content: content["categories"][0].update(id=7)), "a whole number as id that no other"),
        (broken_file(lambda content: content["categories"][0].update(id=None)), "a whole number as id that no other"),
        (broken_file(lambda content: content["categories"][0].update(name=3)), "each of its categories needs a name"),
        (broken_file(lambda content: content["categories"][0].pop("name")), "each of its categories needs a name"),
        (broken_file(lambda content: content["images"][1].update(id=1)), "several of its images have the id 1"),
        (broken_file(lambda content: content.update(images=[], annotations=[])), "none of its 0 images is whole"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_file_that_cannot_be_used(tmp_path, content, message, strict):
    with pytest.raises(ValueError, match=f"instances_train2017.json: .*{message}"):
        read_coco(*write_coco(tmp_path, content), strict)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"images: []"])
def test_a_file_that_is_no_json(tmp_path, text):
    path, images = write_coco(tmp_path, {})
    path.write_bytes(text)
    with pytest.raises(ValueError, match="instances_train2017.json: this is no JSON file"):
        read_coco(path, images)


def test_what_is_not_there(tmp_path):
    path, images = write_coco(tmp_path, coco_content())
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        read_coco(tmp_path / "nothing.json", images)
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere is no folder; it should hold the images of")):
        read_coco(path, tmp_path / "nowhere")


def test_an_image_that_breaks_later_is_named(tmp_path):
    data = read(tmp_path)
    (tmp_path / "pets/train2017/one.jpg").write_bytes(b"gone")
    with pytest.raises(ValueError, match="one.jpg: this is no image"):
        data[0]
