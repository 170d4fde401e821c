"""Prompts: what is asked of a model, and where it comes from.

:class:`Prompts` is the value that crosses rooms. Points come from masks, drawn at random by counter-based keys
(:mod:`~samfast.prompts.draws`) or as the places a mask is known by (:mod:`~samfast.prompts.places`); clicks come from
the errors of an answer (:mod:`~samfast.prompts.clicks`), low-res logits from masks (:mod:`~samfast.prompts.logits`).
"""

from samfast.prompts.clicks import corrective_clicks
from samfast.prompts.draws import draw_keys, jitter_boxes, negative_points, sample_points
from samfast.prompts.logits import mask_logits
from samfast.prompts.places import center_points, centroid_points, farthest_points, point_grid, snap_to_grid
from samfast.prompts.values import NEGATIVE, PADDING, POSITIVE, Prompts, box_prompts, concatenate, point_prompts

__all__ = [
    "NEGATIVE",
    "PADDING",
    "POSITIVE",
    "Prompts",
    "box_prompts",
    "center_points",
    "centroid_points",
    "concatenate",
    "corrective_clicks",
    "draw_keys",
    "farthest_points",
    "jitter_boxes",
    "mask_logits",
    "negative_points",
    "point_grid",
    "point_prompts",
    "sample_points",
    "snap_to_grid",
]
