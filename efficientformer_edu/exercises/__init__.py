"""The checks that a learner runs: one module per chapter; each check explains the likely mistake."""

from __future__ import annotations
