"""How well masks agree: integer counts first, scores from them, then means and their confidence intervals.

:func:`overlap_counts` and :func:`scores` judge pairs of masks by their pixels, :func:`boundary_iou` by their edges,
:func:`surface_distances` by how far their outlines are apart; :func:`pairwise_iou` judges every mask with every other.
"""

from samfast.metrics.boundary import boundaries, boundary_iou, boundary_width, pairwise_boundary_iou
from samfast.metrics.overlap import overlap_counts, scores, stability_scores
from samfast.metrics.pairwise import pairwise_iou
from samfast.metrics.surface import surface_distances

__all__ = [
    "boundaries",
    "boundary_iou",
    "boundary_width",
    "overlap_counts",
    "pairwise_boundary_iou",
    "pairwise_iou",
    "scores",
    "stability_scores",
    "surface_distances",
]
