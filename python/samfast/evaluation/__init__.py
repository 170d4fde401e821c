"""Evaluation: models judged with the same prompts on the same images, and the report of it."""

from samfast.evaluation.judge import evaluate
from samfast.evaluation.report import Report

__all__ = ["Report", "evaluate"]
