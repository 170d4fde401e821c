"""How well masks agree: integer counts first, scores from them, then means and their confidence intervals.

:func:`overlap_counts` and :func:`scores` judge pairs of masks by their pixels, :func:`boundary_iou` by their edges,
:func:`surface_distances` by how far their outlines are apart; :func:`pairwise_iou` judges every mask with every other.
:func:`mean_by_class` and :func:`sum_by_class` gather figures by class, :func:`bootstrap_mean`,
:func:`bootstrap_difference` and :func:`bootstrap` say how sure they are.
"""

from samfast.metrics.aggregate import mean_by_class, sum_by_class
from samfast.metrics.boundary import boundaries, boundary_iou, boundary_width, pairwise_boundary_iou
from samfast.metrics.intervals import Interval, bootstrap, bootstrap_difference, bootstrap_mean
from samfast.metrics.overlap import overlap_counts, scores, stability_scores
from samfast.metrics.pairwise import pairwise_iou
from samfast.metrics.surface import surface_distances

__all__ = [
    "Interval",
    "bootstrap",
    "bootstrap_difference",
    "bootstrap_mean",
    "boundaries",
    "boundary_iou",
    "boundary_width",
    "mean_by_class",
    "overlap_counts",
    "pairwise_boundary_iou",
    "pairwise_iou",
    "scores",
    "stability_scores",
    "sum_by_class",
    "surface_distances",
]
