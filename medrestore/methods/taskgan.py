"""Task-GAN: a third network T that reads a property of the image keeps the restoration honest.

Source: "Task-GAN: Improving Generative Adversarial Network for Image Restoration", equations 1 to 4.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.losses.adversarial import discriminator_loss, feature_matching_loss
from medrestore.losses.pixel import l1_loss
from medrestore.losses.task import task_regression_loss
from medrestore.methods.base import Minimizer, Stage, Step, frozen
from medrestore.networks.discriminators import DiscriminatorOutput
from medrestore.networks.weights import load_network, load_state

__all__ = ["TaskGAN"]


class TaskGAN(Step):
    r"""Generator G, discriminator D and task network T, trained together.

    .. math::
        L(G, D, T) = E\|G(\tilde x, z) - x\|_1 + \lambda \|E f(x) - E f(G(\tilde x, z))\|_2
                     + \mu E\left[(T(G(\tilde x, z)) - y)^2 + (T(x) - y)^2\right]

    Parameters
    ----------
    networks
        ``generator``: (B, C, H, W) degraded slices -> (B, 1, H, W) restored; ``discriminator``: (B, 1, H, W)
        -> logits and features; ``task``: (B, 1, H, W) -> logits, as ``task_loss`` takes them.
    optimizers
        Under the same names.
    adversarial_weight
        lambda of equation 4; 0 leaves D out altogether.
    task_weight
        mu of equation 4; 0 keeps T from G.
    task_update
        What T learns in a stage that trains it beside G. ``joint`` (the paper): both terms of equation 3;
        ``real_only``: (T(x) - y)^2 alone, so that T cannot learn to excuse a bad restoration.
    label_column
        Key of y in the batch.
    task_loss
        Called with T's logits and y: one term of equation 3.
    criterion
        What D learns D(x) = 1, D(G(x~)) = 0 by: ``bce`` | ``least_squares`` | ``hinge``.
    feature_layers
        Layers of D in the feature matching; all when not given.
    task_weights
        ``model.pt`` of a run that pretrained T; T starts from it. A stage that trains T alone
        falls away then.

    Notes
    -----
    Eq. 1 to 4 of Task-GAN. One iteration takes G's step first and D's and T's after it, each on the same
    restored images, so D(x) and its features are computed once. T is in evaluation mode where it judges G:
    what it says of an image then depends on that image alone. The paper gives neither lambda nor mu.
    """

    method = "taskgan"

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        adversarial_weight: float,
        task_weight: float,
        task_update: str = "joint",
        label_column: str,
        task_loss: Callable[[Tensor, Tensor], Tensor] = task_regression_loss,
        criterion: str = "bce",
        feature_layers: Sequence[int] | None = None,
        task_weights: str | os.PathLike[str] | None = None,
    ) -> None:
        require_in_range("adversarial_weight", adversarial_weight, 0, float("inf"), include_high=False)
        require_in_range("task_weight", task_weight, 0, float("inf"), include_high=False)
        if task_update not in ("joint", "real_only"):
            raise InputError(
                f"task_update must be one of 'joint', 'real_only', got {task_update!r}. Remedy: for a T that "
                "does not learn beside G, leave task out of the stage's train"
            )
        require_in_set("criterion", criterion, ("bce", "least_squares", "hinge"))
        super().__init__(networks=networks, optimizers=optimizers)
        self.adversarial_weight = adversarial_weight
        self.task_weight = task_weight
        self.task_update = task_update
        self.label_column = label_column
        self.task_loss = task_loss
        self.criterion = criterion
        self.feature_layers = feature_layers
        if task_weights is not None:
            state = load_network(task_weights, "task").state_dict()
            load_state(networks["task"], state, path=task_weights, name="task network")
            self.given = frozenset({"task"})

    def learning(self, stage: Stage) -> tuple[str, ...]:
        """Leave out D when lambda is 0, and T beside G when mu is 0."""
        held_back = set()
        if "generator" in stage.train:
            if self.adversarial_weight == 0:
                held_back.add("discriminator")
            if self.task_weight == 0:
                held_back.add("task")
        return tuple(name for name in stage.train if name not in held_back)

    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Let G, then D, then T step, as far as the stage lets them; return the terms of equation 4."""
        x, y = batch["label"], batch[self.label_column]
        restored = self.networks["generator"](batch["image"]) if self.learns("generator") else None
        compared = restored is not None and self.adversarial_weight > 0
        real = self.networks["discriminator"](x) if compared else None
        losses = (
            self._generator(engine, restored, x, y, real)
            | self._discriminator(engine, restored, real)
            | self._task(engine, restored, x, y)
        )
        return {name: loss.detach() for name, loss in losses.items()}

    def _generator(
        self,
        engine: Minimizer,
        restored: Tensor | None,
        x: Tensor,
        y: Tensor,
        real: DiscriminatorOutput | None,
    ) -> dict[str, Tensor]:
        if restored is None:
            return {}
        losses = {"pixel": l1_loss(restored, x)}  # eq. 1
        total = losses["pixel"]
        if real is not None:
            with frozen(self.networks["discriminator"]):
                fake = self.bare("discriminator")(restored)
            losses["feature_matching"] = feature_matching_loss(  # eq. 2
                real.features, fake.features, layers=self.feature_layers
            )
            total = total + self.adversarial_weight * losses["feature_matching"]
        if self.task_weight > 0:
            task = self.bare("task").eval()
            with frozen(task):
                losses["task_restored"] = self.task_loss(task(restored), y)  # eq. 3, first term
            total = total + self.task_weight * losses["task_restored"]
        losses["generator"] = total
        engine.minimize("generator", total)
        return losses

    def _discriminator(
        self, engine: Minimizer, restored: Tensor | None, real: DiscriminatorOutput | None
    ) -> dict[str, Tensor]:
        if restored is None or real is None or not self.learns("discriminator"):
            return {}
        fake = self.networks["discriminator"](restored.detach())
        loss = discriminator_loss(real.logits, fake.logits, criterion=self.criterion)
        engine.minimize("discriminator", loss)
        return {"discriminator": loss}

    def _task(self, engine: Minimizer, restored: Tensor | None, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        if not self.learns("task"):
            return {}
        self.bare("task").train()
        losses = {"task_target": self.task_loss(self.networks["task"](x), y)}  # eq. 3, second term
        total = losses["task_target"]
        if restored is not None and self.task_update == "joint":
            losses["task_joint"] = self.task_loss(self.networks["task"](restored.detach()), y)
            total = total + losses["task_joint"]
        engine.minimize("task", total)
        return losses
