"""Task-GAN: a third network T that reads a property of the image keeps the restoration honest.

Source: "Task-GAN: Improving Generative Adversarial Network for Image Restoration", equations 1 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.losses.adversarial import discriminator_loss, feature_matching_loss
from medrestore.losses.pixel import l1_loss
from medrestore.methods.base import Minimizer, Stage, Step, Task, frozen
from medrestore.networks.discriminators import DiscriminatorOutput
from medrestore.networks.weights import load_network, load_state

__all__ = ["TaskGAN"]


class TaskGAN(Step):
    r"""Generator G, discriminator D and task networks T, trained together.

    .. math::
        L(G, D, T) = E\|G(\tilde x, z) - x\|_1 + \lambda \|E f(x) - E f(G(\tilde x, z))\|_2
                     + \mu E\left[(T(G(\tilde x, z)) - y)^2 + (T(x) - y)^2\right]

    with one such last term for each T.

    Parameters
    ----------
    networks
        ``generator``: (B, C, H, W) degraded slices -> (B, 1, H, W) restored; ``discriminator``: (B, 1, H, W)
        -> logits and features; each task network by its name, ``task`` where there is one alone: (B, 1, H, W)
        -> what its loss takes.
    optimizers
        Under the same names; a T that no stage trains needs none.
    adversarial_weight
        lambda of equation 4; 0 leaves D out altogether.
    tasks
        What each T is for, by its name.
    criterion
        What D learns D(x) = 1, D(G(x~)) = 0 by: ``bce`` | ``least_squares`` | ``hinge``.
    feature_layers
        Layers of D in the feature matching; all when not given.

    Notes
    -----
    Eq. 1 to 4 of Task-GAN. One iteration takes G's step first and D's and T's after it, each on the same
    restored images, so D(x) and its features are computed once. T is in evaluation mode where it judges G:
    what it says of an image then depends on that image alone. The paper gives neither lambda nor mu, and has
    one T.
    """

    method = "taskgan"

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        adversarial_weight: float,
        tasks: Mapping[str, Task],
        criterion: str = "bce",
        feature_layers: Sequence[int] | None = None,
    ) -> None:
        require_in_range("adversarial_weight", adversarial_weight, 0, float("inf"), include_high=False)
        for name, task in tasks.items():
            require_in_range(f"{name}_weight", task.weight, 0, float("inf"), include_high=False)
            if task.update not in ("joint", "real_only"):
                raise InputError(
                    f"{name}_update must be one of 'joint', 'real_only', got {task.update!r}. Remedy: for a "
                    f"T that does not learn beside G, leave {name} out of the stage's train"
                )
            if name not in networks:
                raise InputError(f"task {name!r} has no network; networks: {sorted(networks)}")
            if task.comes_trained and task.weight > 0 and task.weights is None:
                raise InputError(
                    f"{name} judges G with weight {task.weight:g}, and nothing has taught it. "
                    f"Remedy: give {name}_weights, model.pt of its training, or {name}_weight 0"
                )
        require_in_set("criterion", criterion, ("bce", "least_squares", "hinge"))
        super().__init__(networks=networks, optimizers=optimizers)
        self.adversarial_weight = adversarial_weight
        self.tasks = dict(tasks)
        self.criterion = criterion
        self.feature_layers = feature_layers
        for name, task in tasks.items():
            if task.weights is not None:
                state = load_network(task.weights, task.trained_as or name).state_dict()
                load_state(networks[name], state, path=task.weights, name=f"{name} network")
        self.given = frozenset(name for name, task in tasks.items() if task.weights is not None)

    def learning(self, stage: Stage) -> tuple[str, ...]:
        """Leave out D when lambda is 0, and each T beside G when its mu is 0."""
        held_back = set()
        if "generator" in stage.train:
            if self.adversarial_weight == 0:
                held_back.add("discriminator")
            held_back |= {name for name, task in self.tasks.items() if task.weight == 0}
        return tuple(name for name in stage.train if name not in held_back)

    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Let G, then D, then each T step, as far as the stage lets them; return the terms of equation 4."""
        restored = self.networks["generator"](batch["image"]) if self.learns("generator") else None
        compared = restored is not None and self.adversarial_weight > 0
        real = self.networks["discriminator"](batch["label"]) if compared else None
        losses = self._generator(engine, restored, batch, real)
        losses |= self._discriminator(engine, restored, real)
        for name in self.tasks:
            losses |= self._task(engine, name, restored, batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _generator(
        self,
        engine: Minimizer,
        restored: Tensor | None,
        batch: Mapping[str, Tensor],
        real: DiscriminatorOutput | None,
    ) -> dict[str, Tensor]:
        if restored is None:
            return {}
        losses = {"pixel": l1_loss(restored, batch["label"])}  # eq. 1
        total = losses["pixel"]
        if real is not None:
            with frozen(self.networks["discriminator"]):
                fake = self.bare("discriminator")(restored)
            losses["feature_matching"] = feature_matching_loss(  # eq. 2
                real.features, fake.features, layers=self.feature_layers
            )
            total = total + self.adversarial_weight * losses["feature_matching"]
        for name, task in self.tasks.items():
            if task.weight == 0:
                continue
            network, known, y = self.bare(name).eval(), task.known(batch), batch[task.label_column]
            if known is None or known.all():
                asked = restored
            else:
                asked, y = restored[known], y[known]
            with frozen(network):  # eq. 3, first term
                term = task.loss(network(asked), y) if len(asked) else restored.new_zeros(())
            losses[f"{name}_restored"] = term
            total = total + task.weight * term
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

    def _task(
        self, engine: Minimizer, name: str, restored: Tensor | None, batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if not self.learns(name):
            return {}
        task, x, y = self.tasks[name], batch["label"], batch[self.tasks[name].label_column]
        known, counts = task.known(batch), 1.0
        if known is not None:
            # Of several processes each takes part in every step, with nothing where it has no such image.
            counts = float(known.any())
            chosen = known.nonzero().flatten() if counts else known.new_zeros(1, dtype=torch.long)
            x, y = x[chosen], y[chosen]
            restored = restored[chosen] if restored is not None else None
        self.bare(name).train()
        losses = {f"{name}_target": counts * task.loss(self.networks[name](x), y)}  # eq. 3, second term
        total = losses[f"{name}_target"]
        if restored is not None and task.update == "joint":
            losses[f"{name}_joint"] = counts * task.loss(self.networks[name](restored.detach()), y)
            total = total + losses[f"{name}_joint"]
        engine.minimize(name, total)
        return losses
