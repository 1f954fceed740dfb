"""SRGAN_SQE: super-resolution whose losses bear with corrupted training images, and its ablations.

Source: "Robust Super-resolution GAN, with Manifold-Based and Perception Loss", sections 2.1 and 2.2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medrestore.checks import InputError, require_in_range, require_in_set
from medrestore.losses.adversarial import CRITERIA, discriminator_loss, generator_adversarial_loss
from medrestore.losses.pixel import quasi_norm_loss
from medrestore.losses.structural import ssim_loss
from medrestore.methods.base import Minimizer, Stage, Step, frozen
from medrestore.networks.weights import load_network, load_state

__all__ = ["SRGAN"]


class SRGAN(Step):
    r"""Generator G and discriminator D trained against each other, an encoder E that compares textures.

    .. math::
        L(G) = w_F\,E\|x - G(\tilde x)\|_{q,\epsilon}^q + w_M\,E\|E(x) - E(G(\tilde x))\|_{q,\epsilon}^q
               - w_S\,E\,\mathrm{SSIM}(x, G(\tilde x)) - w_A\,E\log D(G(\tilde x))

    Parameters
    ----------
    networks
        ``generator``: (B, 3, h, w) small images -> (B, 3, H, W) restored; ``discriminator``: (B, 3, H, W) ->
        logits and features; ``encoder``, needed where w_M > 0 or where a stage trains it: has ``encode``,
        (B, 3, H, W) -> encodings; its forward pass reconstructs.
    optimizers
        Under the same names; none is needed for an encoder that never learns.
    fidelity_weight, adversarial_weight, manifold_weight, structure_weight
        w_F, w_A, w_M, w_S. With w_A = 0 D is left out altogether, with w_M = 0 E is never run.
    exponent, epsilon
        q and epsilon of both quasi-norms.
    autoencoder_exponent
        q of the autoencoder's reconstruction error; at 2 epsilon plays no part in it.
    criterion
        What D learns D(x) = 1, D(G(x~)) = 0 by: ``bce`` | ``least_squares`` | ``hinge``.
    encoder_weights
        ``model.pt`` of a run that trained the encoder; E starts from it, and the stage that trains it falls
        away.

    Raises
    ------
    InputError
        When a setting is out of its range, a network is missing, or ``encoder_weights`` are of another one.

    Notes
    -----
    SRGAN_SQE, section 2.2. A stage does one of three things, by the networks that it trains:

    - ``encoder``, alone: the autoencoder learns to reproduce the targets;
    - ``generator`` without ``discriminator``: warm-up on L_F alone;
    - ``generator`` and ``discriminator``: all terms, E frozen. G's step comes first, D's after it on the same
      restored images.

    The paper's Kullback-Leibler divergence to one-hot vectors is binary cross-entropy; G takes its
    non-saturating form. The variants are settings: SRGAN has the encoder of VGG19 and q = 2, _E the
    autoencoder's and q = 2, _QE q < 2 and w_S = 0, _SQE w_S > 0. All errors are means where the paper has
    sums: see the losses. The warm-up is SRGAN's, not this paper's. The paper's weights are not legible.
    """

    method = "srgan"

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        fidelity_weight: float = 1.0,
        adversarial_weight: float,
        manifold_weight: float,
        structure_weight: float,
        exponent: float,
        epsilon: float,
        autoencoder_exponent: float = 2.0,
        criterion: str = "bce",
        encoder_weights: str | os.PathLike[str] | None = None,
    ) -> None:
        weights = {
            "fidelity_weight": fidelity_weight,
            "adversarial_weight": adversarial_weight,
            "manifold_weight": manifold_weight,
            "structure_weight": structure_weight,
        }
        for name, weight in weights.items():
            require_in_range(name, weight, 0, float("inf"), include_high=False)
        for name, value in {"exponent": exponent, "autoencoder_exponent": autoencoder_exponent}.items():
            require_in_range(name, value, 0, 2, include_low=False)
        require_in_range("epsilon", epsilon, 0, float("inf"), include_high=False)
        if min(exponent, autoencoder_exponent) < 2 and epsilon == 0:
            raise InputError("epsilon must be positive for an exponent below 2, got 0")
        require_in_set("criterion", criterion, CRITERIA)
        super().__init__(networks=networks, optimizers=optimizers)
        needed = {"generator": True, "discriminator": adversarial_weight > 0, "encoder": manifold_weight > 0}
        missing = [name for name, needs in needed.items() if needs and name not in networks]
        if missing:
            raise InputError(f"networks must hold {', '.join(missing)}, got {sorted(networks)}")
        self.fidelity_weight = fidelity_weight
        self.adversarial_weight = adversarial_weight
        self.manifold_weight = manifold_weight
        self.structure_weight = structure_weight
        self.exponent = exponent
        self.epsilon = epsilon
        self.autoencoder_exponent = autoencoder_exponent
        self.criterion = criterion
        if encoder_weights is not None:
            if "encoder" not in networks:
                raise InputError("encoder_weights are given, but networks hold no encoder")
            state = load_network(encoder_weights, "encoder").state_dict()
            load_state(networks["encoder"], state, path=encoder_weights, name="encoder")
            self.given = frozenset({"encoder"})

    def enter(self, stage: Stage) -> None:
        """Start a stage; refuse one whose encoder would change under the loss that it defines."""
        if "encoder" in stage.train and len(stage.train) > 1:
            others = ", ".join(name for name in stage.train if name != "encoder")
            raise InputError(
                f"stage {stage.name!r} trains the encoder beside the {others}. "
                "Remedy: train the encoder in a stage of its own, before"
            )
        if "discriminator" in stage.train and "generator" not in stage.train:
            raise InputError(f"stage {stage.name!r} trains the discriminator without the generator")
        super().enter(stage)

    def learning(self, stage: Stage) -> tuple[str, ...]:
        """Leave out D when its weight is 0."""
        return tuple(name for name in stage.train if name != "discriminator" or self.adversarial_weight > 0)

    def step(self, engine: Minimizer, batch: Mapping[str, Tensor]) -> dict[str, float | Tensor]:
        """Let the autoencoder, or G and then D step; return the terms of the loss."""
        if self.learns("encoder"):
            losses = self._autoencoder(engine, batch["label"])
        else:
            losses = self._generator_and_discriminator(engine, batch["image"], batch["label"])
        return {name: loss.detach() for name, loss in losses.items()}

    def _autoencoder(self, engine: Minimizer, target: Tensor) -> dict[str, Tensor]:
        loss = quasi_norm_loss(
            self.networks["encoder"](target),
            target,
            exponent=self.autoencoder_exponent,
            epsilon=0.0 if self.autoencoder_exponent == 2 else self.epsilon,
        )
        engine.minimize("encoder", loss)
        return {"reconstruction": loss}

    def _generator_and_discriminator(
        self, engine: Minimizer, image: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        restored = self.networks["generator"](image)
        losses = {"fidelity": quasi_norm_loss(restored, target, exponent=self.exponent, epsilon=self.epsilon)}
        total = self.fidelity_weight * losses["fidelity"]
        # A stage that lists D brings in all terms, even where a weight of 0 holds D itself back.
        if self.stage is not None and "discriminator" in self.stage.train:
            terms = self._terms_beside_fidelity(restored, target)
            weights = {
                "manifold": self.manifold_weight,
                "structure": self.structure_weight,
                "adversarial": self.adversarial_weight,
            }
            for name, term in terms.items():
                total = total + weights[name] * term
            losses |= terms
        losses["generator"] = total
        engine.minimize("generator", total)
        if self.learns("discriminator"):
            discriminator = self.networks["discriminator"]
            losses["discriminator"] = discriminator_loss(
                discriminator(target).logits,
                discriminator(restored.detach()).logits,
                criterion=self.criterion,
            )
            engine.minimize("discriminator", losses["discriminator"])
        return losses

    def _terms_beside_fidelity(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.manifold_weight > 0:
            encode = self.bare("encoder").encode
            with torch.no_grad():
                of_target = encode(target)  # type: ignore[operator]
            terms["manifold"] = quasi_norm_loss(
                encode(restored),  # type: ignore[operator]
                of_target,
                exponent=self.exponent,
                epsilon=self.epsilon,
            )
        if self.structure_weight > 0:
            terms["structure"] = ssim_loss(restored, target)
        if self.adversarial_weight > 0:
            discriminator = self.bare("discriminator")
            with frozen(discriminator):  # only G learns from this term
                logits = discriminator(restored).logits
            terms["adversarial"] = generator_adversarial_loss(logits, criterion=self.criterion)
        return terms
