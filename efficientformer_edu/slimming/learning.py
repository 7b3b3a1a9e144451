"""Step 1 of the slimming: train the supernet while the temperature of its mixtures decreases.

Paper: section 4.2. It does not give a recipe, a number of epochs or a temperature schedule; those here are our own.
"""

from __future__ import annotations

from torch import Tensor

from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.evaluation import Evaluation
from efficientformer_edu.training.loading import Batch
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.run import Trained

HOTTEST, COLDEST = 1.0, 0.1


def temperature(progress: float) -> float:
    """Temperature τ at a training progress from 0 to 1: exponential decay from 1 to 0.1. The schedule is our own.

    At τ = 1 every candidate contributes to every step and learns. At τ = 0.1 a mixture is close to a single candidate,
    which is what the slimming extracts.
    """
    return HOTTEST * (COLDEST / HOTTEST) ** progress


class SupernetLoop(Loop):
    """Training loop for a run that builds a `Supernet`; the temperature is a function of the step."""

    def step(self, batch: Batch, step: int, steps_per_epoch: int) -> Tensor:
        """Set the temperature of this step and take the step. Returns the loss."""
        assert isinstance(self.network, Supernet)
        self.network.set_temperature(temperature(step / (steps_per_epoch * self.run.recipe.total_epochs)))
        return super().step(batch, step, steps_per_epoch)

    def finish(self) -> Trained[EfficientFormer, Evaluation]:
        """The training result. The weights are only in the checkpoint, because no layout supports MetaPaths."""
        folder, self.folder = self.folder, None
        try:
            return super().finish()
        finally:
            self.folder = folder
