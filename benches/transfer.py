"""What ``tiny``'s encoder is worth on images it has never seen: ``python benches/transfer.py FLOOD_ROOT``.

The same decoder is tuned on the embeddings of ``tiny``'s encoder and of one with random weights, with the same recipe
and several seeds, and judged on the test set beside ``tiny`` as it is and the floors that need no training.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from contenders.machine import describe
from results import RESULTS, one_thread_each, over_seeds, table, write_section
from safetensors.torch import save_file

import samfast
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam


def random_encoder(seed: int, path: Path) -> Path:
    """``tiny``'s checkpoint with an encoder of freshly drawn weights, position tables included."""
    torch.manual_seed(seed)
    tiny = load_model("tiny")
    drawn = Sam(tiny.architecture)
    for name, value in drawn.image_encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            torch.nn.init.trunc_normal_(value, std=0.02)
    tiny.image_encoder = drawn.image_encoder
    save_file({name: value.contiguous() for name, value in tiny.state_dict().items()}, path)
    return path


def judged(
    root: Path, checkpoint: Path | None, cache: Path, recipe: str, seed: int, out: Path
) -> tuple[list[tuple[str, str, str, float]], float]:
    """Tune and judge: (model, role, prompt, test IoU) of every line of the report, and the best validation IoU."""
    data = samfast.load_dataset(root)
    run = samfast.train_decoder(data, cache=cache, recipe=recipe, seed=seed, out=out, device="cpu")
    report = samfast.evaluate(run, data, cache=cache, checkpoint=checkpoint, device="cpu")
    lines = [(line.model, line.role, line.prompt, line.mean["iou"]) for line in report.summary]
    return lines, max(line["val_iou"] for line in run.metrics)


def main() -> None:
    """Tune, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()

    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, one_thread_each(options.jobs) as pool:
        place = Path(folder)
        data = samfast.load_dataset(options.data)
        encoders: dict[str, Path | None] = {"tiny": None}
        encoders |= {
            f"random-{seed}": random_encoder(seed, place / f"random-{seed}.safetensors") for seed in options.seeds
        }
        caches = {name: place / f"{name}.samcache" for name in encoders}
        for name, checkpoint in encoders.items():
            samfast.cache_embeddings(data, model="tiny", checkpoint=checkpoint, out=caches[name], device="cpu")
        runs = {}
        for seed in options.seeds:
            for title, name in (("tiny", "tiny"), ("random encoder", f"random-{seed}")):
                runs[title, seed] = pool.submit(
                    judged,
                    options.data,
                    encoders[name],
                    caches[name],
                    options.recipe,
                    seed,
                    place / f"{name}-run-{seed}",
                )
        for (title, seed), run in runs.items():
            lines, val_iou = run.result()
            print(title, seed, f"val {val_iou:.4f}", *lines, sep="  ", flush=True)
            found[f"{title}, tuned", "val"].append(val_iou)
            for model, role, prompt, iou in lines:
                if role == "tuned" or (role == "zero-shot" and title == "tiny"):
                    found[f"{title}, {role}", prompt].append(iou)
                elif role != "zero-shot" and title == "tiny":
                    found[f"{model} ({role})", "point"].append(iou)
                    found[f"{model} ({role})", "box"].append(iou)
    rows = []
    for title in dict.fromkeys(title for title, _ in found):
        rows.append([title, *(over_seeds(found.get((title, column), [])) for column in ("point", "box", "val"))])
    text = table(["IoU", "test, point", "test, box", "val, both"], rows)
    print(text)
    note = f"{options.data.name}: {len(data.of('test'))} test images; recipe `{options.recipe}`, seeds {options.seeds}."
    head = f"## What the embedded encoder is worth\n\n{describe('cpu', options.jobs)}."
    write_section(options.results, "transfer", f"{head} {note}\n\n{text}")


if __name__ == "__main__":
    main()
