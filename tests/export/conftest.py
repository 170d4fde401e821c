"""A drawn tiny model, and its graphs translated once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from samfast.export.translate import translate_decoder, translate_encoder


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sam(draw_model: Callable) -> Any:
    return draw_model("tiny", 3)


@pytest.fixture(scope="session")
def graph_folder(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``encoder.onnx`` and ``decoder.onnx`` of ``sam``, without metadata."""
    folder = tmp_path_factory.mktemp("graphs")
    translate_encoder(sam, folder)
    translate_decoder(sam, folder)
    return folder
