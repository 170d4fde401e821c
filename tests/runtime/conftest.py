"""A bundle of the shipped tiny model, and segment_anything's own predictor over the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam as OfficialSam

from samfast.data.shapes import shape_scene
from samfast.export import export_onnx
from samfast.models.checkpoints import load_model
from samfast.runtime import OnnxBundle


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sam() -> Any:
    return load_model("tiny")


@pytest.fixture(scope="session")
def bundle(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> OnnxBundle:
    return export_onnx(sam, out=tmp_path_factory.mktemp("bundle") / "tiny.onnxbundle")


@pytest.fixture
def own_bundle(bundle: OnnxBundle, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy.onnxbundle"))


@pytest.fixture(scope="session")
def official_predictor(sam: Any) -> SamPredictor:
    return SamPredictor(
        OfficialSam(
            sam.image_encoder,
            sam.prompt_encoder,
            sam.mask_decoder,
            pixel_mean=sam.architecture.mean,
            pixel_std=sam.architecture.std,
        ).eval()
    )


IMAGES = {
    name: shape_scene(1, 0, size=size)[0]
    for name, size in {"landscape": (150, 301), "portrait": (333, 187), "square": (200, 200)}.items()
}


@pytest.fixture(scope="session", params=list(IMAGES))
def image(request: pytest.FixtureRequest) -> Any:
    return IMAGES[request.param]
