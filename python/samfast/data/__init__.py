"""Data: readers for the layouts people have, the checked and split data set, and generated scenes."""

from samfast.data.dataset import Dataset, load_dataset
from samfast.data.images import DecodeSpec, decode_image, image_key
from samfast.data.statistics import Statistics, describe
from samfast.data.types import SPLITS, Problem, Sample, Split, Target, TargetKind

__all__ = [
    "SPLITS",
    "Dataset",
    "DecodeSpec",
    "Problem",
    "Sample",
    "Split",
    "Statistics",
    "Target",
    "TargetKind",
    "decode_image",
    "describe",
    "image_key",
    "load_dataset",
]
