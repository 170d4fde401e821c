"""The official vit_b, every tensor drawn, in the official format: the whole way to masks at original size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from segment_anything import SamPredictor, sam_model_registry

from samfast.data.shapes import shape_scene
from samfast.export import export_onnx
from samfast.runtime import OnnxPredictor
from samfast.runtime.graphs import Graphs


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_vit_b_against_sam_predictor(official_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = official_checkpoint("vit_b")
    bundle = export_onnx("vit_b", checkpoint=checkpoint, out=tmp_path / "vit_b.onnxbundle")
    official = SamPredictor(sam_model_registry["vit_b"](str(checkpoint)))
    ours = OnnxPredictor(bundle, device="cpu")
    prompts = (
        {"point_coords": np.array([[300, 200]]), "point_labels": np.array([1])},
        {"box": np.array([100, 80, 420, 390]), "multimask_output": False},
    )
    for index, size in enumerate(((480, 640), (700, 450), (512, 512))):
        image, _ = shape_scene(3, index, size=size)
        official.set_image(image)
        ours.set_image(image)
        for prompt in prompts:
            found, expected = ours.predict(**prompt), official.predict(**prompt)
            difference = np.abs(found[2] - expected[2]).max()
            agreement = (found[0] == expected[0]).mean()
            print(size, sorted(prompt), f"logits {difference:.1e} of {expected[2].std():.2g}, masks {agreement:.6f}")
            assert difference <= 1e-3
            assert np.abs(found[1] - expected[1]).max() <= 1e-4
            assert agreement >= 0.9999
            assert expected[2].std() > 0.1
    graphs = Graphs(bundle.path, device="cpu", keeps_memory=False)
    inputs = np.random.default_rng(0).normal(0, 1, (2, 3, bundle.spec.size, bundle.spec.size)).astype(np.float32)
    alone = np.concatenate([graphs.encode(inputs[:1]), graphs.encode(inputs[1:])])
    np.testing.assert_allclose(graphs.encode(inputs), alone, atol=1e-4)
