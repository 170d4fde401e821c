"""What ``tiny``'s encoder is worth on images it has never seen: ``python benches/transfer.py FLOOD_ROOT``.

The same decoder is tuned on the embeddings of ``tiny``'s encoder and of one with random weights, with the same recipe
and several seeds, and judged on the test set beside ``tiny`` as it is and the floors that need no training.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from results import record, table
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


def main() -> None:
    """Tune, judge, and write the section of ``RESULTS.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    data = samfast.load_dataset(options.data)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for seed in options.seeds:
            encoders = {"tiny": None, "random encoder": random_encoder(seed, place / f"random-{seed}.safetensors")}
            for encoder, checkpoint in encoders.items():
                cache = samfast.cache_embeddings(
                    data,
                    model="tiny",
                    checkpoint=checkpoint,
                    out=place / f"{encoder}-{seed if checkpoint else 0}.samcache",
                )
                run = samfast.train_decoder(
                    data, cache=cache, recipe=options.recipe, seed=seed, out=place / f"{encoder}-{seed}"
                )
                report = samfast.evaluate(run, data, cache=cache, baselines=not found)
                for line in report.summary:
                    if line.role == "zero-shot" and checkpoint is not None:
                        continue
                    title = (
                        f"{encoder}, {line.role}"
                        if line.role in ("zero-shot", "tuned")
                        else f"{line.model} ({line.role})"
                    )
                    found[title, line.prompt].append(line.mean["iou"])

    titles = list(dict.fromkeys(title for title, _ in found))
    rows = []
    for title in titles:
        cells = []
        for prompt in ("point", "box"):
            values = found.get((title, prompt)) or next(v for (t, _), v in found.items() if t == title)
            spread = f" ± {np.std(values):.3f}" if len(values) > 1 and title.endswith("tuned") else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        rows.append([title, *cells])
    text = table(["test IoU", "point", "box"], rows)
    print(text)
    note = f"{data.root.name}: {len(data.of('test'))} test images; recipe `{options.recipe}`, seeds {options.seeds}."
    record(
        "transfer", "What the embedded encoder is worth", f"{note}\n\n{text}", command="python benches/transfer.py DATA"
    )


if __name__ == "__main__":
    main()
