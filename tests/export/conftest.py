"""The shipped tiny model, and its graphs translated once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samfast.export.translate import translate_decoder, translate_encoder
from samfast.models.checkpoints import load_model


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sam() -> Any:
    return load_model("tiny")


@pytest.fixture(scope="session")
def graph_folder(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``encoder.onnx`` and ``decoder.onnx`` of ``sam``, without metadata."""
    folder = tmp_path_factory.mktemp("graphs")
    translate_encoder(sam, folder)
    translate_decoder(sam, folder)
    return folder
