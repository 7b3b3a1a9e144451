"""Settings of all tests."""

from __future__ import annotations

import hypothesis
import torch

# The tests run side by side, one process a core; and a slow machine is no failure.
torch.set_num_threads(1)
hypothesis.settings.register_profile("kit", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("kit")
