"""The model card: what a model was made from, for what, and what it is worth."""

from __future__ import annotations

import json
from typing import Any

from samfast.export.source import Source
from samfast.inference.prompt_kinds import label_of
from samfast.models.architecture import OFFICIAL_FILES

HUB_NAMES = {
    OFFICIAL_FILES["vit_b"]: "facebook/sam-vit-base",
    OFFICIAL_FILES["vit_l"]: "facebook/sam-vit-large",
    OFFICIAL_FILES["vit_h"]: "facebook/sam-vit-huge",
}
"""What the hub calls the models in the official checkpoints."""
LICENSE = "apache-2.0"
"""Of the official checkpoints and of ``tiny``."""
SPLIT_ORIGINS = {"given": "in the sets that the data came with", "automatic": "split automatically"}


def model_card(source: Source) -> str:
    """Markdown with the front matter that the Hugging Face hub reads."""
    lines = ["---", "library_name: transformers", "pipeline_tag: mask-generation", "tags: [segment-anything, samfast]"]
    lines += [*_origin(source), "---", "", f"# {source.out.name}", ""]
    if source.run is None:
        return "\n".join([*lines, f"The base model `{source.sam.name}`.", ""])
    run, config = source.run, source.run["config"]
    length = f"{config['steps']} steps" if config.get("steps") else f"{config['epochs']} epochs"
    lines += [
        f"`{source.sam.name}`, its prompt encoder and mask decoder fine-tuned with samfast on embeddings of its image",
        "encoder, which is that of the base model.",
        "",
        f"* **Prompts**: trained on `{label_of(config['regime'])}`; {_contract(source)}",
        f"* **Data**: {run['target_kind']} masks of {', '.join(source.classes) or 'objects'};"
        f" images {_sets(source.images)}, {SPLIT_ORIGINS[run['split_origin']]}",
        f"* **Annotations**: SHA-256 `{run['annotation_hash']}`",
        f"* **Recipe**: `{config['recipe']}`, lr {config['lr']:g}, {length} planned, seed {config['seed']};"
        f" ended after epoch {source.metrics[-1]['epoch']}; epoch {run['epoch']} was the best on the validation set",
        "",
        "| validation | before | after |",
        "| --- | --: | --: |",
        *(f"| {name} | {before:.3f} | {after:.3f} |" for name, before, after in _figures(source.metrics, run["epoch"])),
        "",
        *_test_table(source.report),
        "",
        "<details><summary>settings</summary>",
        "",
        "```json",
        json.dumps({**config, "regime": label_of(config["regime"])}, indent=2, ensure_ascii=False),
        "```",
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def _origin(source: Source) -> list[str]:
    """What the front matter says of the base of a fine-tune; nothing where it is a checkpoint of someone's own."""
    if source.run is None:
        return []
    if source.run["checkpoint"] is None:  # tiny, which is on no hub
        return [f"license: {LICENSE}"]
    base = HUB_NAMES.get(source.run["checkpoint"])
    return [] if base is None else [f"license: {LICENSE}", f"base_model: {base}"]


def _test_table(report: dict[str, Any] | None) -> list[str]:
    """Zero-shot and tuned on the test set."""
    if report is None:
        return ["It was not judged on a test set."]
    asked = report["asked"]
    lines = [line for line in report["summary"] if line["role"] in ("zero-shot", "tuned")]
    return [
        f"| test ({asked['images']} images, {asked['objects']} objects) | prompt | IoU | Dice |",
        "| --- | --- | --: | --: |",
        *(
            f"| {line['model']} ({line['role']}) | {line['prompt']} | {line['mean']['iou']:.3f} | "
            f"{line['mean']['dice']:.3f} |"
            for line in lines
        ),
    ]


def _contract(source: Source) -> str:
    points, others = source.contract.one_point, source.contract.other
    said = [f"a lone point is answered by tokens {list(points)}"] if points else []
    said += [f"every other prompt by tokens {list(others)}"] if others else []
    return "; ".join(said) + "; other tokens were not trained"


def _sets(images: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in images.items())


def _figures(metrics: list[dict[str, Any]], epoch: int) -> list[tuple[str, float, float]]:
    """(name, untuned, tuned) of each figure of the kept epoch."""
    before, after = metrics[0], next(line for line in metrics if line["epoch"] == epoch)
    names = [name for name in after if name.startswith("val_") and name != "val_seconds"]
    return [(name.removeprefix("val_").replace("_", " by ", 1), before[name], after[name]) for name in names]
