"""Fashion-MNIST's files: read, downloaded from a local server, and refused if they are wrong."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import torch

from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.fashion_mnist import CLASSES, FILES, full, small, statistics
from tools import ROOT, fashion_subset

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
IMAGES_FILE = struct.pack(">4I", 2051, 6, 28, 28) + PIXELS.tobytes()
LABELS_FILE = struct.pack(">2I", 2049, 6) + LABELS.tobytes()
NAMES = tuple(file.name for file in FILES["test"])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Three empty folders to search, and a test set of six images."""
    folders = SimpleNamespace(**{name: tmp_path / name for name in ("given", "debian", "cache")})
    for folder in vars(folders).values():
        folder.mkdir()
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folders.debian)
    monkeypatch.setattr(pooch, "os_cache", lambda name: folders.cache / name)
    published = tuple(
        replace(
            file,
            count=6,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for file, content in zip(FILES["test"], (IMAGES_FILE, LABELS_FILE), strict=True)
    )
    monkeypatch.setattr(fashion_mnist, "FILES", {"test": published})
    return folders


def put(folder: Path, images: bytes = IMAGES_FILE, labels: bytes = LABELS_FILE, packed: bool = True) -> None:
    for name, content in zip(NAMES, (images, labels), strict=True):
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["given", "debian"])
def test_read_from_where_it_is(folders: SimpleNamespace, folder: str, packed: bool) -> None:
    put(getattr(folders, folder), packed=packed)
    images, labels = full("test", folders.given)
    assert images.dtype == torch.uint8 and np.array_equal(images[:, 0].numpy(), PIXELS)
    assert labels == LABELS.tolist()


def test_an_explicit_folder_comes_first(folders: SimpleNamespace) -> None:
    put(folders.debian)
    (folders.given / NAMES[1]).write_bytes(b"nothing of the kind")
    assert full("test")[1] == LABELS.tolist()
    with pytest.raises(ValueError, match=re.escape(str(folders.given / NAMES[1]))):
        full("test", folders.given)


def test_what_is_nowhere_says_how_to_get_it(folders: SimpleNamespace) -> None:
    ways = ".*".join(["t10k-images", "dataset-fashion-mnist", "data_dir", "download=True", "fashion-mnist-small"])
    with pytest.raises(FileNotFoundError, match=ways):
        full("test", folders.given)


CASES = {
    "cut short, packed": (gzip.compress(IMAGES_FILE)[:-900], "is damaged or truncated"),
    "a bit flipped, packed": (gzip.compress(IMAGES_FILE)[:-6] + b"......", "is damaged or truncated"),
    "no archive inside": (fashion_mnist.GZIP + b"...", "is damaged or truncated"),
    "empty": (b"", "contains something else; expected the 6 images"),
    "labels": (LABELS_FILE, "contains 6 labels; expected the 6 images"),
    "the other split's": (
        struct.pack(">4I", 2051, 7, 28, 28) + bytes(7 * 784),
        "contains 7 images; expected the 6 images",
    ),
    "cut short": (IMAGES_FILE[:-1], "has 4,719 bytes of content instead of 4,720"),
    "a bit flipped": (IMAGES_FILE[:-1] + b".", "is not Fashion-MNIST's"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_named(folders: SimpleNamespace, case: str) -> None:
    content, message = CASES[case]
    put(folders.given, packed=False)
    (folders.given / NAMES[0]).write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(folders.given / NAMES[0]))} {message}"):
        full("test", folders.given)


def test_labels_of_the_other_split_are_refused(folders: SimpleNamespace) -> None:
    put(folders.given, labels=struct.pack(">2I", 2049, 5) + bytes(5))
    with pytest.raises(ValueError, match=f"{NAMES[1]}.gz contains 5 labels; expected the 6 labels"):
        full("test", folders.given)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """The tests check standard error."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A server that replaces the authors', with both archives."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        contents = zip(NAMES, (IMAGES_FILE, LABELS_FILE), strict=True)
        server.files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in contents}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(fashion_mnist, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.shutdown()
        thread.join()


def test_fetched_once_and_only_on_request(folders: SimpleNamespace, server: ThreadingHTTPServer) -> None:
    with pytest.raises(FileNotFoundError):
        full("test")
    images, _ = full("test", download=True)
    server.files.clear()
    again, labels = full("test")
    assert torch.equal(images, again) and labels == LABELS.tolist()


@pytest.mark.parametrize("case", ["wrong", "missing"])
def test_a_wrong_download_leaves_no_files(folders: SimpleNamespace, server: ThreadingHTTPServer, case: str) -> None:
    if case == "wrong":
        server.files[f"{NAMES[0]}.gz"] = gzip.compress(b"something else")
    else:
        server.files.clear()
    error = ValueError if case == "wrong" else OSError
    with pytest.raises(error, match=f"To download it by hand, fetch http.*{NAMES[0]}.gz"):
        full("test", download=True)
    assert [path for path in folders.cache.rglob("*") if path.is_file()] == []


def test_the_sizes_of_the_published_files() -> None:
    assert [file.size for file in FILES["train"]] == [47_040_016, 60_008]


@pytest.mark.parametrize(("split", "per_class"), [("train", 400), ("test", 100)])
def test_the_small_set_has_as_many_of_every_class(split: str, per_class: int) -> None:
    images, labels = small(split)
    assert images.shape == (10 * per_class, 1, 28, 28) and images.dtype == torch.uint8
    assert Counter(labels) == dict.fromkeys(range(len(CLASSES)), per_class)
    assert len(set(labels[:100])) == 10  # the classes are mixed
    assert len({image.numpy().tobytes() for image in images}) > 10 * per_class - 5


def test_the_small_set_is_a_copy() -> None:
    small("test")[0].zero_()
    assert small("test")[0].any()


def test_the_small_set_is_small_and_has_its_licence() -> None:
    folder = ROOT / "efficientformer_edu" / "data"
    assert (folder / "fashion_mnist_small.npz").stat().st_size <= 2_000_000
    licence = (folder / "fashion_mnist_small.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence and "Copyright (c) 2017 Zalando SE" in licence


@pytest.mark.slow
@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_tool_rebuilds_the_small_set(tmp_path: Path) -> None:
    fashion_subset.make(tmp_path / "again.npz")
    made, kept = np.load(tmp_path / "again.npz"), np.load(fashion_subset.TARGET)
    assert made.files == kept.files
    assert all(np.array_equal(made[name], kept[name]) for name in kept.files)


@pytest.mark.slow
@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_small_set_and_the_statistics_are_of_the_full_set() -> None:
    """By reading the archive without the package."""
    archive = fashion_mnist.DEBIAN / "train-images-idx3-ubyte.gz"
    pixels = np.frombuffer(gzip.decompress(archive.read_bytes())[16:], np.uint8).reshape(-1, 784)
    known = {row.tobytes() for row in pixels}
    assert all(image.numpy().tobytes() in known for image in small("train")[0])
    assert statistics() == pytest.approx((np.mean(pixels) / 255, np.std(pixels) / 255), rel=1e-9)


def test_the_statistics_are_those_that_others_use() -> None:
    assert statistics() == pytest.approx((0.2860, 0.3530), abs=5e-5)
