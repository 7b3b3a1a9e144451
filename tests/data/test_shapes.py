"""The shapes in the signatures, checked at every call for every valid pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook(["efficientformer_edu.model", "efficientformer_edu.dense"], "beartype.beartype"):
    from efficientformer_edu import dense

import torch
import dense_networks as small

for pair in small.ALLOWED:
    network = small.dense_network(pair)
    for size in ((64, 64), (33, 50)):
        network(small.images(2, *size))

config = dense.AnchorFreeDecoupledHeadConfig(depthwise=True)
head = dense.AnchorFreeDecoupledHead((8,), (4,), 3, config).eval()
head([torch.zeros(1, 8, 3, 3)])
try:
    head.stems[0](torch.zeros(1, 3, 3))
except TypeCheckError:
    print("refused")
"""


def test_every_signature_holds():
    command = [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parents[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"]
