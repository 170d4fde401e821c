"""Masks in memory: a batch of binary masks of one size, run-length encoded, and the operations on them.

Run lengths are COCO's: column-major, the first run is background. The kernels are ``samfast._rust``; this package is
their typed face.
"""

from samfast.masks.batch import Masks
from samfast.masks.labels import from_labels, to_labels
from samfast.masks.logits import logits_to_packed
from samfast.masks.rasters import polygons_to_numpy, polygons_to_packed

__all__ = ["Masks", "from_labels", "logits_to_packed", "polygons_to_numpy", "polygons_to_packed", "to_labels"]
