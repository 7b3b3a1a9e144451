"""The inputs of a slimming: a supernet that matches the table and the images, and held-out images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import images

from efficientformer_edu.data import datasets
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.slimming import protocol as protocol_module
from efficientformer_edu.slimming.protocol import (
    PROTOCOLS,
    SIZE,
    SUPERNET,
    WIDTHS,
    SlimmingImages,
    SlimmingProtocol,
    get_evaluator,
    get_protocol,
    get_supernet,
    load_slimming_images,
    supernet_run,
)
from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.small import LEAST_GRID, smallest_size

SMALL = PROTOCOLS[datasets.FASHION_MNIST_SMALL]


@pytest.fixture(scope="module")
def small() -> SlimmingImages:
    return load_slimming_images(SMALL)


def test_the_last_two_stages_have_at_least_4_by_4_tokens() -> None:
    *_, third, last = SUPERNET.grids(SIZE)
    assert third == (8, 8) and last == (4, 4)
    assert min(*third, *last) >= LEAST_GRID
    assert smallest_size(SUPERNET) == SIZE


def test_the_table_reaches_from_16_channels_to_the_supernets() -> None:
    for widths, most in zip(WIDTHS, SUPERNET.embed_dims, strict=True):
        assert (widths[0], widths[-1]) == (16, most)
        assert list(widths) == sorted(set(widths))
        assert not any(width % 16 for width in widths)


def test_the_slimming_starts_with_every_metapath() -> None:
    start = Subnet.largest(SUPERNET)
    assert start.config(SUPERNET) == SUPERNET.replace(num_vit=(0, 0, 4, 4))
    assert Supernet(SUPERNET).importances() == tuple(
        (2.0 if stage > 1 else 1.0,) * depth for stage, depth in enumerate(SUPERNET.depths)
    )


def pixels(dataset: Images) -> list[bytes]:
    return [bytes(torch.as_tensor(dataset[index][0]).flatten().tolist()) for index in range(len(dataset))]


def test_nothing_learns_from_the_evaluation_images(small: SlimmingImages) -> None:
    """Neither they nor the test images are among the supernet's training images."""
    counts = torch.tensor(small.held_out.labels).bincount(minlength=10)
    assert counts.tolist() == [SMALL.held_out] * 10
    assert len(small.learn) + len(small.held_out) == len(small.train)
    learn, held_out, train = (pixels(subset) for subset in (small.learn, small.held_out, small.train))
    assert not set(learn) & set(held_out)
    assert sorted(learn + held_out) == sorted(train)
    assert small.test.description != small.train.description
    assert not set(pixels(small.test)) & set(held_out)


def test_a_protocol_can_take_some_images_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[object]()

    def load(name: str, split: datasets.Split, **options: object) -> Images:
        calls.append((name, split, options))
        return images(split, 300)

    monkeypatch.setattr(protocol_module, "load_data", load)
    few = SlimmingProtocol("tests", datasets.FASHION_MNIST, 9, 4, SMALL.recipe)
    splits = load_slimming_images(few)
    assert calls == [(datasets.FASHION_MNIST, split, {"data_dir": None}) for split in ("train", "test")]
    assert [len(subset) for subset in (splits.learn, splits.held_out, splits.train, splits.test)] == [50, 40, 90, 300]


def test_the_run_of_the_supernet_builds_a_supernet(small: SlimmingImages) -> None:
    run = supernet_run(SMALL, small, seed=4, noise="gumbel")
    assert run.config == SUPERNET and run.config.num_classes == 10 and run.config.in_channels == 1
    assert (run.seed, run.size, run.recipe) == (4, SIZE, SMALL.recipe)
    assert run.train is small.learn and run.test is small.held_out
    network = run.build(run.config)
    assert isinstance(network, Supernet)
    assert {path.noise for path in network.all_paths()} == {"gumbel"}
    assert run.described()["variant"] == "supernet, gumbel noise"
    assert supernet_run(SMALL, small).described() != run.described()


def test_the_evaluator_sees_what_the_supernet_sees(small: SlimmingImages) -> None:
    evaluator = get_evaluator(SMALL, small, seed=4)
    assert evaluator.learn is small.learn and evaluator.held_out is small.held_out
    assert (evaluator.recipe, evaluator.size, evaluator.seed) == (SMALL.recipe, SIZE, 4)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_leaves_enough_to_learn_from(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.data == name
    count = protocol.per_class or 400
    assert protocol.held_out < count / 2
    assert 10 * (count - protocol.held_out) > 10 * protocol.recipe.batch
    assert protocol.recipe.distillation is None
    assert get_protocol(name) is protocol


def test_a_folder_of_images_is_used_completely(tmp_path: Path) -> None:
    protocol = get_protocol(str(tmp_path))
    assert (protocol.data, protocol.per_class) == (str(tmp_path), None)
    with pytest.raises(ValueError, match="'imagenet'.*fashion-mnist, or a folder"):
        get_protocol("imagenet")


def test_the_supernet_is_made_for_the_images(small: SlimmingImages) -> None:
    two = Images(small.test[0][0][None].repeat(2, 1, 1, 1), [0, 1], ("a", "b"), "two")
    assert get_supernet(SlimmingImages(two, two, two, two)) == SUPERNET.replace(num_classes=2)
