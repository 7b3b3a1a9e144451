"""The checks that a learner runs: one module a chapter, each check a function that explains the likely mistake."""

from __future__ import annotations
