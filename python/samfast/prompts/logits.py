"""Masks as the logits a decoder takes for a mask prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samfast.checks import finite, instance
from samfast.errors import ConfigError
from samfast.frames import Frame
from samfast.masks import Masks


def mask_logits(masks: Masks, frame: Frame, *, epsilon: float = 1e-3) -> NDArray[np.float32]:
    """``(N, low_res, low_res)`` float32 logits, low-res frame, that say what each mask says.

    The logit of the fraction of each low-res cell that the mask covers (:meth:`~samfast.masks.Masks.rasterize`), kept
    within ``epsilon`` and ``1 - epsilon``, as ``micro-sam`` does with a binary mask; off the image it is background.
    What :attr:`~samfast.prompts.Prompts.mask_logits` takes.

    Args:
        masks: ``N`` masks, original frame.
        frame: of the image they are on.
        epsilon: the least probability of either answer: 1e-3 is a logit of about 6.9.

    Raises:
        ConfigError: a frame of another image size, or an ``epsilon`` outside of (0, 0.5).
    """
    instance("masks", masks, Masks)
    if not 0 < finite("epsilon", epsilon) < 0.5:
        raise ConfigError(f"epsilon is {epsilon}, expected a number between 0 and 0.5", where="epsilon")
    covered = masks.rasterize(frame).astype(np.float64).clip(epsilon, 1 - epsilon)
    logits: NDArray[np.float32] = np.log(covered / (1 - covered)).astype(np.float32)
    return logits
