"""Step 1 of the slimming: train the supernet, while the temperature of its mixtures falls.

Paper: section 4.2. Recipe, epochs and the schedule of the temperature are not sourced; those here are ours.
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
    """τ after this part of the training, from 0 to 1: from 1 down to 0.1 in equal quotients. The schedule is ours.

    At 1 every candidate has a share in every step and learns; at 0.1 a mixture is nearly one candidate, which is what
    the slimming takes out.
    """
    return HOTTEST * (COLDEST / HOTTEST) ** progress


class SupernetLoop(Loop):
    """The loop of `training` for a run that builds a `Supernet`; the temperature is a function of the step."""

    def step(self, batch: Batch, step: int, steps_per_epoch: int) -> Tensor:
        """One step, at its temperature. Returns the loss."""
        assert isinstance(self.network, Supernet)
        self.network.set_temperature(temperature(step / (steps_per_epoch * self.run.recipe.total_epochs)))
        return super().step(batch, step, steps_per_epoch)

    def finish(self) -> Trained[EfficientFormer, Evaluation]:
        """What came out. Its weights are in the checkpoint alone, for no layout has a place for MetaPaths."""
        folder, self.folder = self.folder, None
        try:
            return super().finish()
        finally:
            self.folder = folder
