"""Choose the frame of the loss: ``python benches/loss_frame.py DATA_ROOT... --litter TACO_ANNOTATIONS``.

``tiny`` is tuned with the loss in the low-res and in the model frame, and judged at original resolution.
``--litter`` adds a data set of small objects: outlines of the TACO data set at their places and sizes, painted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders.machine import describe
from PIL import Image
from recipes import compared
from results import RESULTS, one_thread_each, table, write_section
from synthetic import draw_batch

from samfast.data.textures import photograph, rgb, surface
from samfast.masks import Masks
from samfast.models.architecture import get_architecture
from samfast.models.sam import Sam
from samfast.train.config import TrainConfig
from samfast.train.engine import Trainer
from samfast.train.run import Run
from samfast.train.targets import LOSS_FRAMES

LITTER_SIDE = 768
SETS = {"train": 48, "valid": 16, "test": 16}


def write_litter(root: Path, annotations: Path, *, sets: dict[str, int] = SETS) -> Path:
    """Images of painted litter with its outlines, in Roboflow's layout: those of TACO's that hold 3 to 12 objects."""
    given = json.loads(annotations.read_text())
    by_image: dict[int, list[list[list[float]]]] = {}
    for annotation in given["annotations"]:
        if all(len(polygon) >= 6 for polygon in annotation["segmentation"]):
            by_image.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    shown = [image for image in given["images"] if 3 <= len(by_image.get(image["id"], [])) <= 12]
    rest = iter(shown)
    for name, count in sets.items():
        (root / name).mkdir(parents=True)
        listed: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "litter"}]}
        for number in range(count):
            image = next(rest)
            scale = LITTER_SIDE / max(image["height"], image["width"])
            size = (round(image["height"] * scale), round(image["width"] * scale))
            objects = [[(np.array(part) * scale).round(2).tolist() for part in one] for one in by_image[image["id"]]]
            file = f"{number:03}.jpg"
            Image.fromarray(painted(objects, size, seed=image["id"])).save(root / name / file, quality=92)
            listed["images"].append({"id": number, "file_name": file, "height": size[0], "width": size[1]})
            for one, mask in zip(objects, Masks.from_polygons(objects, *size), strict=True):
                left, top, right, bottom = mask.boxes()[0].tolist()
                box = [left, top, right - left + 1, bottom - top + 1]
                entry = {"image_id": number, "category_id": 1, "segmentation": one, "bbox": box, "iscrowd": 0}
                listed["annotations"].append({"id": len(listed["annotations"]), "area": int(mask.area()[0]), **entry})
        (root / name / "_annotations.coco.json").write_text(json.dumps(listed))
    return root


def painted(objects: list[list[list[float]]], size: tuple[int, int], *, seed: int) -> Any:
    """``(H, W, 3)`` uint8: surfaces in the outlines of objects, on another one."""
    rng = np.random.default_rng(seed)
    scene = surface(rng, *size, rgb(rng.uniform(60, 170, 3)), kind="clouds", strength=18)
    for one in Masks.from_polygons(objects, *size).numpy():
        scene[one] = surface(rng, *size, rgb(rng.uniform(20, 240, 3)), kind="clouds", strength=12)[one]
    return photograph(rng, scene, blur_px=0.7, noise=4.0, jpeg_quality=None)


def step_seconds(model: str, loss_frame: str) -> float:
    """The faster of two training steps of 4 images with 2 prompts, on one thread."""
    torch.set_num_threads(1)
    config = TrainConfig.make(model=model, regime="point", loss_frame=loss_frame, device="cpu")
    trainer = Trainer(
        Sam(get_architecture(model), decoder_only=True), config, steps_per_epoch=1, device=torch.device("cpu")
    )
    batch = draw_batch(model, 4, 2, loss_frame=loss_frame)
    spent = []
    for step in range(3):
        start = time.perf_counter()
        trainer.step(batch, step)
        spent.append(time.perf_counter() - start)
    return min(spent[1:])


def last_epochs(frame: str, roots: Sequence[Path], seeds: Sequence[int], place: Path) -> list[str]:
    """A row of the validation IoU after the last epoch."""
    runs = [[Run(place / f"{frame}, {root.name}, seed {seed}") for seed in seeds] for root in roots]
    values = [float(np.mean([run.metrics[-1]["val_iou"] for run in of_one])) for of_one in runs]
    return [f"{frame}, val after the last epoch", *(f"{value:.3f}" for value in [*values, np.mean(values)])]


def main() -> None:
    """Train, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--litter", type=Path, help="annotations.json of TACO")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--max-prompts", type=int, default=4, help="objects of an image in an epoch; bounds the time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="a folder for the runs, which go on where they were interrupted")
    options = parser.parse_args()

    common = {
        "epochs": options.epochs,
        "max_prompts": options.max_prompts,
        "eval_interval": max(1, options.epochs // 2),
    }
    with tempfile.TemporaryDirectory() as folder, one_thread_each(options.jobs) as pool:
        place = options.work or Path(folder)
        roots = list(options.data)
        if options.litter:
            roots.append(place / "litter")
            if not roots[-1].exists():
                write_litter(roots[-1], options.litter)
        candidates = {frame: {**common, "loss_frame": frame} for frame in LOSS_FRAMES}
        rows = compared(candidates, roots, seeds=options.seeds, place=place, pool=pool)
        last = [last_epochs(frame, roots, options.seeds, place) for frame in LOSS_FRAMES]
    winner = max(zip(last, LOSS_FRAMES, strict=True), key=lambda found: float(found[0][-1]))[1]
    models = ("tiny", "vit_b")
    for row, frame in zip(rows, LOSS_FRAMES, strict=True):
        row += [f"{1e3 * step_seconds(model, frame):.0f} ms" for model in models]
    header = ["val / test IoU", *(root.name for root in roots), "mean", *(f"a step of {model}" for model in models)]
    note = (
        f"`tiny`, regime point+box, mean IoU over both prompts at original resolution, {options.epochs} epochs of the"
        f" default recipe, seeds {options.seeds}, at most {options.max_prompts} objects an image in an epoch. litter:"
        " outlines of TACO, painted. A step: 4 images with 2 points each, one thread. The default is the frame whose"
        f" last epochs are better on val (the best may be the untuned model's, in any frame): `{winner}`."
    )
    head = f"## The frame of the loss\n\n{describe('cpu', options.jobs)}."
    write_section(
        options.results, "loss-frame", f"{head} {note}\n\n{table(header, rows + [[*row, '', ''] for row in last])}"
    )


if __name__ == "__main__":
    main()
