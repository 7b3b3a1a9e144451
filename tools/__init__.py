"""Small scripts that the Makefile runs, each from the top folder as `python -m tools.NAME`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
COPIES = ROOT / "build" / "notebooks"
