"""Without a network: the package, its commands, a notebook and the pages work in a namespace that has none.

On Linux, `unshare -rn` creates such a namespace without special rights; if it is not permitted, these tests are
skipped. CONTRIBUTING.md explains how to run the full suite in such a namespace.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from dense_folders import annotation, coco_content, write_coco
from filelock import FileLock
from PIL import Image

from efficientformer_edu import weights
from efficientformer_edu.cli import app
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.slimming.records import Search
from tools import ROOT, fetch_assets

pytestmark = pytest.mark.slow

NAMESPACE = ["unshare", "--map-root-user", "--net"]
COMMAND = [sys.executable, "-m", "efficientformer_edu.cli"]
TINY = EfficientFormerConfig(depths=(1, 1, 1, 2), embed_dims=(4, 6, 8, 10), num_classes=7, num_heads=2, key_dim=3)
COMMANDS = {  # every command of efficientformer-edu, on local files alone
    "audit": ["tiny.yaml", "--resolution", "64", "--counters"],
    "bench": ["tiny.yaml", "--resolution", "64", "--rounds", "2"],
    "export": ["tiny.yaml", "--format", "onnx", "--resolution", "64", "--out", "tiny.onnx"],
    "observe": ["1", "--rounds", "1"],
    "diagram": ["tiny.yaml", "--format", "svg", "--out", "tiny.svg"],
    "convert": ["tiny.safetensors", "tiny.pth", "--layout", "timm"],
    "predict": ["photo.png", "--weights", "tiny.safetensors"],
    "train": ["tiny.yaml", "--epochs", "1", "--batch", "1000", "--size", "32", "--out", "run"],
    "ablate": ["--list"],
    "slim": ["--replay", "search.json"],
    "evaluate": ["clothes.safetensors", "--size", "32", "--out", "matrix.png"],
}

NETWORK = """
import socket
assert {name for _, name in socket.if_nameindex()} == {"lo"}
for address in (("127.0.0.1", 9), ("192.0.2.1", 443)):
    try:
        socket.create_connection(address, timeout=5)
    except OSError as error:
        print(error)
    else:
        raise AssertionError(f"{address} answers")
"""
PREDICTION = """
import efficientformer_edu as ef
model = ef.get_model("l1")
found = ef.inference_model(model, "photo.png")
print(len(found["pred_scores"]), found["pred_class"])
print(ef.fold(model, 224), ef.count("l1").macs)
"""
NOTEBOOK = """
from pathlib import Path
import nbformat.v4 as v4
from tools.chapters import read, write
from tools.notebooks import executed
path = Path("01_small.ipynb").resolve()
write(v4.new_notebook(cells=[v4.new_code_cell("import efficientformer_edu as ef\\nef.count('l1').macs")]), path)
print(executed(path, path.parent / "copies").cells[0].outputs[0].data)
"""
SITE = """
import os
import sys
from pathlib import Path
from mkdocs.commands.build import build
from mkdocs.config import load_config
from tools import ROOT, site
from tools.fetch_assets import serve
here = Path.cwd()
os.chdir(ROOT)
site.gather(target=here / "docs")
build(load_config("mkdocs.yml", docs_dir=str(here / "docs"), site_dir=str(here / "site"), strict=True))
serve(here / "site" / "assets", folder=False)
print(*(path.name for path in (here / "site").iterdir()))
"""


@cache
def refusal() -> str:
    """Why a namespace cannot be created here, or nothing."""
    if not shutil.which("unshare"):
        return "no unshare on this machine"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if why := refusal():
        pytest.skip(f"needs a namespace without a network: {why}")
    torch.manual_seed(0)
    weights.save(EfficientFormer(TINY), tmp_path / "tiny.safetensors", layout="native")
    clothes = EfficientFormer(TINY.replace(num_classes=10, in_channels=1))
    weights.save(clothes, tmp_path / "clothes.safetensors", layout="native")
    (tmp_path / "tiny.yaml").write_text(TINY.to_yaml(), encoding="utf-8")
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")
    importances = tuple((1.0,) * depth for depth in TINY.depths)
    Search(TINY.replace(embed_dims=(16, 16, 16, 16)), importances, (0.1,), 0.2).save(tmp_path / "search.json")
    return tmp_path


def offline(folder: Path, *command: str) -> str:
    """The output of `command`, run in `folder` without a network."""
    made = subprocess.run([*NAMESPACE, *command], cwd=folder, capture_output=True, encoding="utf-8")
    assert made.returncode == 0, made.stderr
    return made.stdout


def program(folder: Path, source: str) -> str:
    return offline(folder, sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{source}")


def test_there_is_no_network(folder: Path) -> None:
    assert len(program(folder, NETWORK).splitlines()) == 2


def test_every_command_is_tried() -> None:
    assert {str(command.callback and command.callback.__name__) for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, folder: Path) -> None:
    offline(folder, *COMMAND, name, *COMMANDS[name])
    made = [Path(word) for word in COMMANDS[name] if word in ("tiny.svg", "tiny.pth", "tiny.onnx", "matrix.png")]
    assert all((folder / path).stat().st_size for path in made)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_commands_for_other_tasks_than_classification(task: str, folder: Path) -> None:
    for part in ("train2017", "val2017"):
        write_coco(folder / "mine", coco_content(annotation(), annotation(image=5, category=90)), part)
    quick = ["--data", "mine", "--size", "32", "--epochs", "1", "--batch", "2", "--out", "run"]
    offline(folder, *COMMAND, "train", "tiny.yaml", "--task", task, *quick)
    offline(folder, *COMMAND, "predict", "photo.png", "--weights", "run/weights.safetensors", "--out", "found.png")
    assert (folder / "found.png").stat().st_size


def test_import_and_prediction(folder: Path) -> None:
    scores, *_, macs = program(folder, PREDICTION).split()
    assert (scores, macs) == ("1000", "1291284736")


def test_a_notebook(folder: Path) -> None:
    assert "1291284736" in program(folder, NOTEBOOK)


def test_the_pages(folder: Path) -> None:
    (ROOT / "build").mkdir(exist_ok=True)
    try:
        with FileLock(ROOT / "build" / "site.lock"):  # the browser tests may be fetching them in another process
            fetch_assets.fetch()
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"the browser's assets are not there yet, and fetching them takes a network: {error}")
    assert {"index.html", "assets", "api", "search"} <= set(program(folder, SITE).splitlines()[-1].split())
