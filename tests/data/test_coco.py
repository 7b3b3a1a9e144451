"""The COCO format: what is read from it, valid variants, polygons, and every kind of invalid entry."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
import torch
from dense_folders import HEIGHT, WIDTH, annotation, coco_content, put, square, write_coco
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as cocoapi

from efficientformer_edu.data import coco
from efficientformer_edu.data.coco import check_outline, decode, read_coco
from efficientformer_edu.data.examples import IGNORED
from efficientformer_edu.data.letterbox import Letterbox
from efficientformer_edu.dense.evaluation import classes_of

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32)).map(
    lambda three: np.random.default_rng(three[2]).random(three[:2]) < 0.4
)
OTHER = annotation(image=5, category=90)  # an object in the second image


def read(tmp_path, *annotations, strict=True):
    return read_coco(*write_coco(tmp_path / "pets", coco_content(*annotations)), strict)


def test_a_single_object(tmp_path):
    data = read(tmp_path, annotation(bbox=[4.5, 2, 10, 8]), annotation(image=5, category=90))
    first, second = data
    assert first.image.shape == (3, HEIGHT, WIDTH)
    assert first.boxes.tolist() == [[4.5, 2, 14.5, 10]]
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])  # 7 and 90, in this order
    assert not first.crowd.any()
    assert first.masks[0].nonzero().aminmax(dim=0).min.tolist() == [2, 4]
    assert first.masks[0].sum() == 10 * 8
    assert torch.equal(first.semantic, first.masks[0].byte())
    assert torch.equal(second.semantic, 2 * second.masks[0].byte())


def test_what_it_is(tmp_path):
    data = read(tmp_path, annotation())
    assert (len(data), data.skipped) == (2, 0)
    assert data.classes == ("cat", "dog")
    assert data.pixel_classes == ("background", "cat", "dog")
    assert repr(data) == "Coco: instances_train2017, 2 images with 1 objects of 2 classes"


def test_pixels_are_those_of_the_file(tmp_path):
    data = read(tmp_path, annotation())
    with Image.open(tmp_path / "pets/train2017/two.png") as image:
        assert torch.equal(data[1].image, torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_an_image_without_objects_is_background(tmp_path):
    empty = read(tmp_path, OTHER)[0]
    assert (empty.boxes.shape, empty.labels.shape, len(empty.masks)) == ((0, 4), (0,), 0)
    assert (empty.labels.dtype, empty.crowd.dtype) == (torch.int64, torch.bool)
    assert (empty.semantic == 0).all()


def test_the_smaller_of_two_objects_is_in_front(tmp_path):
    """The order in the file does not matter."""
    large = annotation(bbox=[0, 0, 20, 20], segmentation=[square(0, 0, 20, 20)])
    small = annotation(category=90, bbox=[5, 5, 4, 4], segmentation=[square(5, 5, 9, 9)])
    for index, both in enumerate(((large, small), (small, large))):
        semantic = read(tmp_path / str(index), *both)[0].semantic
        assert (semantic[5:9, 5:9] == 2).all()
        assert (semantic == 1).sum() == 400 - 16


def test_crowds_are_ignored_except_where_an_object_is_known(tmp_path):
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 10 * HEIGHT, 20 * HEIGHT]}  # the ten columns on the left
    crowd = annotation(bbox=[0, 0, 10, 20], segmentation=runs, iscrowd=1)
    example = read(tmp_path, annotation(bbox=[4, 2, 3, 3], segmentation=[square(4, 2, 7, 5)]), crowd)[0]
    assert example.crowd.tolist() == [False, True]
    assert example.masks[1].sum() == 10 * HEIGHT
    assert (example.semantic[2:5, 4:7] == 1).all()
    assert (example.semantic == IGNORED).sum() == 10 * HEIGHT - 9
    assert (example.semantic[:, 10:] == 0).all()


@pytest.mark.parametrize("without", [{"segmentation": []}, {"segmentation": None}, "segmentation"], ids=str)
def test_objects_without_an_outline(tmp_path, without):
    """Detection data may have boxes without masks: which of their pixels show the object is unknown."""
    boxed = annotation(bbox=[4.5, 2, 2, 3])
    boxed.pop(without) if isinstance(without, str) else boxed.update(without)
    data = read(tmp_path, boxed, OTHER)
    assert data[0].boxes.tolist() == [[4.5, 2, 6.5, 5]]
    assert list(data[0].masks) == [None]
    unknown = data[0].semantic == IGNORED
    assert (int(unknown.sum()), bool(unknown[2:5, 4:7].all())) == (3 * 3, True)
    assert data.pixel_classes == ("background", "cat", "dog")


def test_data_with_boxes_alone_have_no_classes_of_pixels(tmp_path):
    data = read(tmp_path, annotation(segmentation=[]))
    assert classes_of(data, "detection") == ("cat", "dog")
    with pytest.raises(ValueError, match="no pixel classes: .*; train for detection"):
        classes_of(data, "segmentation")


UNUSABLE = {
    "empty polygon": [[]],
    "flat list": [5, 5, 25, 5, 25, 25, 5, 25],
    "box as polygon": [[5, 5, 20, 20]],
    "one bad of two": [square(4, 2, 14, 10), [7, 7, 8, 8]],
    "odd": [[1, 1, 5, 1, 5, 9, 3]],
    "not finite": [[1, 1, 5, 1, 5, float("nan")]],
    "text": "polygon",
    "short run lengths": {"size": [HEIGHT, WIDTH], "counts": [1]},
    "packed run lengths of another size": {"size": [4, 4], "counts": "04"},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_outline_costs_the_mask_and_not_the_object(tmp_path, name):
    both = annotation(), annotation(segmentation=UNUSABLE[name])
    with pytest.raises(ValueError, match=r"instances_train2017.json: annotations\[1\]: "):
        read(tmp_path, *both)
    with pytest.warns(UserWarning) as caught:
        data = read(tmp_path, *both, strict=False)
    assert [str(warning.message)[:28] for warning in caught] == ["instances_train2017.json: 1 "]
    assert re.search(r"1 of 2 objects .* outline .*annotations\[1\]: ", str(caught[0].message))
    assert (data.skipped, len(data[0].labels)) == (0, 2)
    assert torch.equal(data[0].boxes[0], data[0].boxes[1])
    known, unknown = data[0].masks
    assert (int(known.sum()), unknown) == (10 * 8, None)


def test_an_outline_around_no_pixel_is_no_mask(tmp_path):
    """A line has no area. Its box is not background."""
    line = annotation(segmentation=[[4, 2, 9, 2, 4, 2]])
    assert (read(tmp_path, line)[0].semantic == IGNORED).sum() == 10 * 8


def test_masks_are_decoded_singly_and_only_on_demand(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(coco, "decode", lambda *arguments: decoded.append(arguments) or decode(*arguments))
    example = read(tmp_path, annotation(), annotation(category=90), OTHER)[0]
    Letterbox(40, (0.5, 2.0), True, pixels=False)(example, torch.Generator().manual_seed(0))
    assert decoded == []
    assert example.masks[1].sum() == 10 * 8
    assert len(decoded) == 1
    Letterbox(40)(example)
    assert len(decoded) == 3
    assert example.semantic is example.semantic


def test_an_example_of_many_boxes_is_as_large_as_its_image(tmp_path):
    """Less memory than a mask per box: 300 boxes on 2000×2000 pixels would take 1.2 GB."""
    path, images = write_coco(tmp_path, {})
    Image.new("RGB", (400, 400)).save(images / "one.jpg")
    entry = {"id": 1, "file_name": "one.jpg", "height": 400, "width": 400}
    things = [annotation(bbox=[n, n, 30, 30], segmentation=[]) for n in range(300)]
    content = {**coco_content(*things), "images": [entry]}
    path.write_text(json.dumps(content), encoding="utf-8")
    example = read_coco(path, images, strict=True)[0]
    held = [value for value in vars(example).values() if isinstance(value, torch.Tensor)]
    assert example.boxes.shape == (300, 4)
    assert sum(tensor.nbytes for tensor in held) < 2 * example.image.nbytes


def test_boxes_are_cut_at_the_border(tmp_path):
    example = read(tmp_path, annotation(bbox=[-3, 15, 10, 40]))
    assert example[0].boxes.tolist() == [[0, 15, 7, 20]]


def test_an_image_whose_camera_was_turned(tmp_path):
    """The sizes in the file are those of the upright image."""
    paths = write_coco(tmp_path, coco_content(annotation()))
    exif = Image.Exif()
    exif[0x0112] = 6
    put(paths[1] / "one.jpg", np.zeros((WIDTH, HEIGHT, 3)), exif=exif)
    assert read_coco(*paths, strict=True)[0].image.shape == (3, HEIGHT, WIDTH)


def only(name, **fields):
    """A file with one image, object and class, with other fields in one of the lists."""
    content = coco_content(annotation())
    content = {**content, "images": content["images"][:1], "categories": content["categories"][1:]}
    for key in fields:
        content[name][0][key] = fields[key]
    return {**content, name: [{key: value for key, value in content[name][0].items() if value is not ...}]}


def with_ids(image, category):
    content = only("images", id=image)
    content["annotations"][0].update(image_id=image, category_id=category)
    content["categories"][0].update(id=category)
    return content


LAWFUL = {
    "ids as text": with_ids("image 1", "cat"),
    "ids that are whole floats": with_ids(1.0, 7.0),
    "an id that is 1 and 1.0": only("annotations", image_id=1.0),
    "sizes that are whole floats": only("images", height=float(HEIGHT), width=float(WIDTH)),
    "no size": only("images", height=..., width=...),
    "sizes that are null": only("images", height=None, width=None),
    "iscrowd null": only("annotations", iscrowd=None),
    "no iscrowd": only("annotations", iscrowd=...),
    "iscrowd as text": only("annotations", iscrowd="0"),
    "iscrowd false": only("annotations", iscrowd=False),
    "the name of the folder": only("images", file_name="train2017/one.jpg"),
    "a backslash": only("images", file_name="deeper\\one.jpg"),
    "a slash": only("images", file_name="./deeper/one.jpg"),
    "an address as in LVIS": only("images", file_name=..., coco_url="http://images.cocodataset.org/train2017/one.jpg"),
}


@pytest.mark.parametrize("name", LAWFUL)
def test_lawful_variants(tmp_path, name):
    paths = write_coco(tmp_path, LAWFUL[name])
    put(paths[1] / "deeper/one.jpg")
    data = read_coco(*paths, strict=True)
    assert (len(data), data.skipped, data.classes) == (1, 0, ("cat",))
    assert (data[0].boxes.tolist(), data[0].crowd.tolist()) == ([[4, 2, 14, 10]], [False])
    assert data[0].image.shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("crowd", ["1", 1.0, True])
def test_crowds_are_marked_in_several_ways(tmp_path, crowd):
    assert read(tmp_path, annotation(), annotation(iscrowd=crowd))[0].crowd.tolist() == [False, True]


def test_a_byte_order_mark(tmp_path):
    path, images = write_coco(tmp_path, coco_content(annotation()))
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert len(read_coco(path, images)) == 2


def test_ids_of_classes_in_order_numbers_before_text(tmp_path):
    content = only("annotations", category_id="b")
    content["categories"] = [{"id": number, "name": f"class {number}"} for number in ("b", 10, 9.0, "a")]
    data = read_coco(*write_coco(tmp_path, content))
    assert data.classes == ("class 9.0", "class 10", "class a", "class b")
    assert data[0].labels.tolist() == [3]


def test_more_classes_than_a_map_of_pixels_can_hold(tmp_path):
    """LVIS has 1,203 classes, which is not too many for detection."""
    content = only("annotations", category_id=1203)
    content["categories"] = [{"id": number, "name": f"class {number}"} for number in range(1, 1204)]
    data = read_coco(*write_coco(tmp_path, content), strict=True)
    assert data[0].labels.tolist() == [1202]
    assert len(classes_of(data, "detection")) == 1203
    Letterbox(40, pixels=False)(data[0])
    with pytest.raises(ValueError, match="1,204 pixel classes; .* 255: .*; train for detection"):
        classes_of(data, "segmentation")
    with pytest.raises(ValueError, match="label 1202 does not fit a map of pixels"):
        _ = data[0].semantic


def test_the_content_has_a_fingerprint(tmp_path):
    """Of the images and the annotations, independent of their folder."""
    first, same = (read(tmp_path / name, annotation()).fingerprint for name in ("a", "b"))
    other = read(tmp_path / "c", annotation(bbox=[4, 2, 10, 7])).fingerprint
    put(tmp_path / "b/pets/train2017/two.png", np.zeros((HEIGHT, WIDTH, 3)))
    folder = tmp_path / "b/pets"
    changed = read_coco(folder / "annotations/instances_train2017.json", folder / "train2017").fingerprint
    assert first == same
    assert len({first, other, changed}) == 3


BROKEN = [
    ({"image_id": 2}, "its image_id is none of the images"),
    ({"image_id": "1"}, "its image_id is none of the images"),
    ({"image_id": True}, "its image_id is none of the images"),
    ({"image_id": float("nan")}, "its image_id is none of the images"),
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
    ({"iscrowd": 2}, "its iscrowd is 2; allowed: 0, 1"),
]


@pytest.mark.parametrize(("fields", "message"), BROKEN)
def test_broken_objects(tmp_path, fields, message):
    both = annotation(), annotation(**fields)
    with pytest.raises(ValueError, match=rf"instances_train2017.json: annotations\[1\]: .*{message}"):
        read(tmp_path, *both, strict=True)
    with pytest.warns(UserWarning, match=rf"1 of 4 entries left out; first reason: annotations\[1\]: .*{message}"):
        data = read(tmp_path, *both, strict=False)
    assert (data.skipped, len(data[0].labels)) == (1, 1)
    assert data.description.endswith("2 images with 1 objects of 2 classes, 1 entries left out")


def test_an_entry_that_is_no_object_at_all(tmp_path):
    with pytest.warns(UserWarning, match="1 of 4 entries left out"):
        assert read(tmp_path, annotation(), 3, strict=False).skipped == 1


BROKEN_IMAGES = [
    ({"file_name": "three.jpg"}, FileNotFoundError, "three.jpg is missing"),
    ({"file_name": "broken.jpg"}, ValueError, "broken.jpg: not an image, or a broken one"),
    ({"file_name": "cut.jpg"}, ValueError, "cut.jpg: not an image, or a broken one"),
    ({"file_name": None}, ValueError, "needs an id, .* and a file_name"),
    ({"file_name": ["one.jpg"]}, ValueError, "needs an id, .* and a file_name"),
    ({"id": None}, ValueError, "needs an id, .* and a file_name"),
    ({"id": [1]}, ValueError, "needs an id, .* and a file_name"),
    ({"height": 0}, ValueError, "one.jpg has 20×30 pixels; expected 0×30"),
    ({"height": 30, "width": 20}, ValueError, "one.jpg has 20×30 pixels; expected 30×20"),
]


@pytest.mark.parametrize(("fields", "kind", "message"), BROKEN_IMAGES)
def test_broken_images(tmp_path, fields, kind, message):
    """Every broken image is left out with its objects, and counted once."""
    content = coco_content(annotation(), annotation(image=5))
    paths = write_coco(tmp_path, content)
    (paths[1] / "broken.jpg").write_bytes(b"no image")
    (paths[1] / "cut.jpg").write_bytes((paths[1] / "one.jpg").read_bytes()[:-60])
    content["images"][0].update(fields)
    write_coco(tmp_path, content)
    with pytest.raises(kind, match=rf"instances_train2017.json: images\[0\]: .*{message}"):
        read_coco(*paths, strict=True)
    with pytest.warns(UserWarning, match=rf"entries left out; first reason: images\[0\]: .*{message}"):
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
        (broken_file(lambda content: content.update(categories=[])), "has no categories"),
        (broken_file(lambda content: content["categories"][0].update(id=7)), "an id that no other"),
        (broken_file(lambda content: content["categories"][0].update(id=None)), "an id that no other"),
        (broken_file(lambda content: content["categories"][0].update(name=3)), "each of its categories needs a name"),
        (broken_file(lambda content: content["categories"][0].pop("name")), "each of its categories needs a name"),
        (broken_file(lambda content: content["images"][1].update(id=1)), "several of its images have the id 1"),
        (broken_file(lambda content: content.update(images=[], annotations=[])), "none of its 0 images can be used"),
        (broken_file(lambda content: content.update(annotations=[])), "no object that can be used"),
        (broken_file(lambda content: content["annotations"][0].update(iscrowd=1)), "1 usable objects are crowds"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_file_that_cannot_be_used(tmp_path, content, message, strict):
    with pytest.raises(ValueError, match=f"instances_train2017.json: .*{message}"):
        read_coco(*write_coco(tmp_path, content), strict)


def test_nothing_that_can_be_used_has_a_first_reason(tmp_path):
    """Before training starts."""
    with pytest.raises(ValueError, match=r"no object that can be used; first reason: annotations\[0\]: its bbox"):
        read(tmp_path, annotation(bbox=[1, 2, 0, 0]), annotation(category=1), strict=False)
    content = coco_content(annotation())
    for entry in content["images"]:
        entry["file_name"] = f"no {entry['file_name']}"
    with pytest.raises(ValueError, match=r"none of its 2 images can be used; first reason: images\[0\]: .*no one.jpg"):
        read_coco(*write_coco(tmp_path, content))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"images: []"])
def test_a_file_that_is_no_json(tmp_path, text):
    path, images = write_coco(tmp_path, {})
    path.write_bytes(text)
    with pytest.raises(ValueError, match="instances_train2017.json: not a JSON file"):
        read_coco(path, images)


def test_what_is_not_there(tmp_path):
    path, images = write_coco(tmp_path, coco_content(annotation()))
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        read_coco(tmp_path / "nothing.json", images)
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere is not a folder; it should hold the images of")):
        read_coco(path, tmp_path / "nowhere")


def test_an_image_that_breaks_later_is_named(tmp_path):
    data = read(tmp_path, annotation())
    (tmp_path / "pets/train2017/one.jpg").write_bytes(b"gone")
    with pytest.raises(ValueError, match="one.jpg: not an image"):
        data[0]


def test_a_rectangle_is_its_pixels():
    mask = decode([square(1, 2, 4, 3)], 5, 6)
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[2, 1:4] = True
    assert torch.equal(mask, expected)


def test_several_polygons_form_a_single_object():
    mask = decode([square(0, 0, 1, 1), square(3, 3, 5, 5)], 5, 5)
    assert mask.sum() == 1 + 4


def test_run_lengths_go_down_the_columns():
    """Of 3×2 pixels, one is outside, three are inside, two are outside."""
    assert decode({"size": [3, 2], "counts": [1, 3, 2]}, 3, 2).int().tolist() == [[0, 1], [1, 0], [1, 0]]


@given(MASKS)
def test_masks_packed_by_cocoapi_are_restored(pixels):
    packed = cocoapi.encode(np.asfortranarray(pixels, np.uint8))
    for counts in (packed["counts"], packed["counts"].decode()):
        encoded = {"size": list(pixels.shape), "counts": counts}
        check_outline(encoded, *pixels.shape)
        assert np.array_equal(decode(encoded, *pixels.shape).numpy(), pixels)


@given(MASKS)
def test_lists_of_run_lengths(pixels):
    column = pixels.T.ravel()
    changes = np.flatnonzero(np.diff(column)) + 1
    lengths = np.diff([0, *changes, column.size]).tolist()
    encoded = {"size": list(pixels.shape), "counts": lengths if not column[0] else [0, *lengths]}
    check_outline(encoded, *pixels.shape)
    assert np.array_equal(decode(encoded, *pixels.shape).numpy(), pixels)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
@given(st.lists(st.lists(st.floats(-5, 35, width=32), min_size=6, max_size=12), min_size=1, max_size=3))
def test_polygons_as_cocoapi_decodes_them(polygons):
    polygons = [polygon[: len(polygon) // 2 * 2] for polygon in polygons]
    expected = cocoapi.decode(cocoapi.merge(cocoapi.frPyObjects(polygons, 20, 30)))
    check_outline(polygons, 20, 30)
    assert np.array_equal(decode(polygons, 20, 30).numpy(), expected == 1)


def test_numbers_of_several_characters():
    """Five bits per character from "0" on, the lowest first: 100 = 3·32 + 4 is "T3", and −1 is a single "O"."""
    assert coco._unpack("T34") == [100, 4]
    assert coco._unpack("456O") == [4, 5, 6, 4]  # the fourth is relative to the second


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("polygon", "neither a list of polygons nor run lengths"),
        ([[1, 1, 5, 1, 5]], "a polygon .* has 5 numbers; .* three points"),
        ([square(0, 0, 2, 2), [1, 1, 5, 1]], "a polygon .* has 4 numbers"),
        ([3], "a polygon .* is 3; allowed"),
        ([[1, 1, 5, 1, 5, float("nan")]], "not finite"),
        ([[1, 1, 5, 1, 5, float("inf")]], "not finite"),
        ([[1, 1, 5, 1, 5, "6"]], "not finite"),
        ([[1, 1, 5, 1, 5, None]], "not finite"),
        ([[1, 1, 5, 1, 5, True]], "not finite"),
        ([[1, 1, 5, 1, 5, 10**400]], "far outside"),
        ([[-31, 1, 5, 1, 5, 6]], "far outside"),
        ({"size": [30, 20], "counts": [600]}, r"size \[30, 20\], its image has \[20, 30\]"),
        ({"counts": [600]}, "size None"),
        ({"size": [20, 30]}, "not a list of integers"),
        ({"size": [20, 30], "counts": [700, -100]}, "not a list of integers"),
        ({"size": [20, 30], "counts": [599.0, 1]}, "not a list of integers"),
        ({"size": [20, 30], "counts": [599]}, "add up to 599 pixels, its image has 600"),
        ({"size": [20, 30], "counts": "1"}, "add up to 1 pixels"),
        ({"size": [20, 30], "counts": ""}, "add up to 0 pixels"),
        ({"size": [20, 30], "counts": "T"}, "end within a number"),
        ({"size": [20, 30], "counts": "1 1"}, "contain ' '"),
        ({"size": [20, 30], "counts": "1é1"}, "contain 'é'"),
        ({"size": [20, 30], "counts": "O"}, "not a list of integers"),
    ],
)
def test_what_is_no_outline(segmentation, message):
    with pytest.raises(ValueError, match=message):
        check_outline(segmentation, 20, 30)
