"""The published weights from a local server: complete, truncated, wrong, missing, unreachable, cached."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from PIL import Image

import efficientformer_edu as ef
from efficientformer_edu.utils import files as utils_files
from efficientformer_edu.weights import class_names, from_weights
from efficientformer_edu.weights import files as download

CONTENT = bytes(range(256)) * 40
NAME = "efficientformer-l1_3rdparty_in1k_20220915-{}.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.sends])

    def log_message(self, *_):
        """The tests check standard error."""


@pytest.fixture
def server(monkeypatch):
    """A server without files that replaces the server of the published weights."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked, server.sends, server.says_length = {}, [], None, True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(download, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.shutdown()
        thread.join()
    with warnings.catch_warnings():  # torch.hub does not close the response when it raises
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def publish(server, monkeypatch, content=CONTENT, digest=None):
    """Put a file onto the server as L1's; its name contains its hash, or the hash that is passed."""
    name = NAME.format(digest or hashlib.sha256(content).hexdigest()[:8])
    monkeypatch.setitem(download.FILES, "l1", name)
    server.files[name] = content
    return name


def test_the_files_are_those_of_mmpretrains_model_index():
    assert download.ADDRESS == "https://download.openmmlab.com/mmclassification/v0/efficientformer/"
    assert download.FILES == {
        "l1": "efficientformer-l1_3rdparty_in1k_20220915-cc3e1ac6.pth",
        "l3": "efficientformer-l3_3rdparty_in1k_20220915-466793d6.pth",
        "l7": "efficientformer-l7_3rdparty_in1k_20220915-185e30af.pth",
    }


@pytest.mark.parametrize("says_length", [True, False])
def test_fetched_once(server, cache, monkeypatch, capsys, says_length):
    name = publish(server, monkeypatch)
    server.says_length = says_length
    for model in ("l1", "efficientformer-l1_3rdparty_8xb128_in1k", ef.EfficientFormerConfig()):
        path = download.fetch(model)
        assert path == cache / name
        assert path.read_bytes() == CONTENT
    assert server.asked == [f"/{name}"]
    assert os.listdir(cache) == [name]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("Downloading ") == 1 and f"Downloading {download.ADDRESS}{name} to {cache / name}\n" in err
    assert ("100%" in err and "/10.2k" in err) == says_length  # progress, and the size if the server reports it


def test_others_may_read_the_file(server, monkeypatch, tmp_path):
    publish(server, monkeypatch)
    (tmp_path / "plain").touch()
    assert download.fetch("l1").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_put_there_by_hand(server, cache, monkeypatch, capsys):
    name = publish(server, monkeypatch)
    assert download.find("l1") is None
    cache.mkdir(parents=True)
    (cache / name).write_bytes(CONTENT)
    assert download.find("l1") == download.fetch("l1") == cache / name
    assert server.asked == []
    assert capsys.readouterr() == ("", "")


def test_a_wrong_file_in_the_folder_is_named_and_left_there(server, cache, monkeypatch):
    name = publish(server, monkeypatch)
    cache.mkdir(parents=True)
    (cache / name).write_bytes(CONTENT[:-1])
    for read in (download.find, download.fetch):
        with pytest.raises(
            ValueError, match=f"^{re.escape(str(cache / name))}: its SHA-256 starts with .* Move it away"
        ):
            read("l1")
    assert (cache / name).read_bytes() == CONTENT[:-1]
    assert server.asked == []


def refused(cache, error, *parts):
    """Fetching fails, prints these parts in this order, then the manual way, and leaves no files behind."""
    address = download.ADDRESS + download.FILES["l1"]
    by_hand = f"To download it by hand, fetch {address} on any machine and save it as {cache / download.FILES['l1']}"
    with pytest.raises(error, match=".*".join(map(re.escape, (*parts, by_hand)))) as caught:
        ef.get_model("l1", pretrained=True)
    assert not cache.exists() or os.listdir(cache) == []
    return caught.value


def test_wrong_hash(server, cache, monkeypatch):
    publish(server, monkeypatch, digest="0123abcd")
    refused(cache, ValueError, "not the published file", "0123abcd")


def test_half_a_file(server, cache, monkeypatch):
    publish(server, monkeypatch)
    server.sends = len(CONTENT) // 2
    refused(cache, OSError, "could not be downloaded: ")
    server.says_length = False
    refused(cache, ValueError, "the download is incomplete")


def test_not_there(server, cache, monkeypatch):
    name = publish(server, monkeypatch)
    server.files.clear()
    refused(cache, OSError, f"{name} could not be downloaded: 404")


def test_no_answer(cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(download, "ADDRESS", f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    refused(cache, OSError, f"{download.FILES['l1']} could not be downloaded: ", "refused")


def test_a_server_that_stops_answering(server, cache, monkeypatch):
    name, ended = publish(server, monkeypatch), threading.Event()
    monkeypatch.setattr(utils_files, "TIMEOUT", 0.2)
    monkeypatch.setattr(Handler, "do_GET", lambda request: ended.wait(20))  # then it would close the connection
    refused(cache, OSError, f"{name} could not be downloaded: ", "timed out")
    ended.set()


def test_no_folder(server, cache, monkeypatch):
    publish(server, monkeypatch)
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.write_text("a file where the folder should be")
    refused(cache, OSError, "could not be downloaded: ", "Not a directory")
    assert server.asked == []


def test_interrupted(server, cache, monkeypatch):
    publish(server, monkeypatch)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.fetch("l1")
    assert os.listdir(cache) == []


@pytest.mark.parametrize("model", ["snap-research/efficientformer-l1-300", ef.EfficientFormerConfig(num_classes=10)])
def test_other_networks_have_no_published_weights(server, model):
    assert download.find(model) is None
    with pytest.raises(ValueError, match="no weights are published for .*l1, l3, l7.*1000 epochs.*pretrained='"):
        ef.get_model(model, pretrained=True)
    assert server.asked == []


def test_a_wrong_field_is_detected_before_anything_is_fetched(server):
    with pytest.raises(ValueError, match="Unknown field 'num_clases'"):
        ef.get_model("l1", pretrained=True, num_clases=10)
    assert server.asked == []


@pytest.fixture
def published_l1(server, monkeypatch, tmp_path):
    """L1 with random weights, published like mmpretrain's."""
    torch.manual_seed(0)
    network = ef.EfficientFormer().eval()
    ef.save(network, tmp_path / "l1.pth", layout="mmpretrain")
    publish(server, monkeypatch, (tmp_path / "l1.pth").read_bytes())
    return network


def test_the_examples_of_mmpretrains_page(published_l1, server, tmp_path):
    Image.effect_noise((260, 300), 80).save(bird := tmp_path / "bird.png")
    with pytest.warns(UserWarning, match="random weights"):
        ef.inference_model("efficientformer-l1_3rdparty_8xb128_in1k", bird)
    assert server.asked == []  # a prediction fetches nothing

    model = ef.get_model("efficientformer-l1_3rdparty_8xb128_in1k", pretrained=True)
    inputs = torch.rand(1, 3, 224, 224)
    out = model(inputs)
    assert type(out) is torch.Tensor and out.shape == (1, 1000)
    assert torch.equal(out, published_l1(inputs))
    feats = model.extract_feat(inputs)
    assert type(feats) is tuple and [feat.shape for feat in feats] == [(1, 448)]

    predict = ef.inference_model(
        "efficientformer-l1_3rdparty_8xb128_in1k", bird
    )  # no warning: the weights are there now
    expected = ef.inference_model(published_l1, bird)
    assert predict["pred_class"] == class_names()[expected["pred_label"]]
    assert predict["pred_score"] == expected["pred_score"]

    assert from_weights(download.find("l1")).config == published_l1.config
    tuned = ef.get_model("l1", pretrained=True, num_classes=10)
    assert tuned.head.out_features == 10 and torch.equal(tuned.norm.weight, published_l1.norm.weight)
    assert len(server.asked) == 1
