"""Train the shipped ``tiny`` model on generated scenes and photographs: ``python tools/train_tiny.py --photos DIR``.

samfast has to be installed in the environment. The first part of the run uses half-size images, which cost a quarter.
Everything is drawn from the position in the stream: an interrupted run goes on where its last state was saved. Streams
of generated scenes (first argument of ``shape_scene``): 20000 trains, 20001 is the validation printed while training,
20002 is for tests and is never read here. Of the photographs, the train sets train and the val sets are watched.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling.image_encoder import add_decomposed_rel_pos
from tiny_examples import POINT, SPEC, VALIDATION_STREAM, Batch, batches, example
from tiny_photos import SOURCES, Photos
from torch import Tensor
from torch.nn import functional as F

from samfast.models import decoder
from samfast.models.allocator import keep_heap
from samfast.models.architecture import get_architecture
from samfast.models.checkpoints import load_model
from samfast.models.sam import Sam

ROOT = Path(__file__).resolve().parent.parent
REFINED_PER_IMAGE = 2
"""Prompts per image that are asked again, every other step, with their own logits and a corrective point."""
WARMUP_STEPS = 60
MUON_GAIN = 2.0
"""Learning rate of the matrices relative to the rest."""
WEIGHT_DECAY = 0.02
EMA_DECAY = 0.995
SINGLE_WEIGHT = 1.5
"""Of prompts that supervise one mask token, where a point supervises two."""
AFFINITY = 0.5
"""Weight of the affinity loss at the start; it fades over the run."""
LOG_EVERY_STEPS = 50

TABLES = ("embed", "iou_token", "mask_tokens")
"""Parameters of two axes that are rows to look up, not matrices to multiply with."""


def flat(batch: Batch) -> Batch:
    """Prompts of all images in one axis, with the image each is about."""
    images, prompts = batch["labels"].shape[:2]
    out = {name: value.flatten(0, 1) for name, value in batch.items() if name != "image"}
    out["image_index"] = torch.arange(images, device=batch["labels"].device).repeat_interleave(prompts)
    return out


def accumulate(model: Sam, batch: Batch, pool: ThreadPoolExecutor, step: int, affinity: float) -> float:
    """Add the gradients of ``batch``, each thread of ``pool`` taking a part of its images; returns the loss.

    Threads that share nothing but the weights lose less to a busy machine than operators that are split over cores.
    """
    parts, device = pool._max_workers, next(model.parameters()).device
    split = (values.to(device).chunk(parts) for values in batch.values())
    shares = [dict(zip(batch, values, strict=True)) for values in zip(*split, strict=True)]

    def backward(index: int) -> float:
        torch.set_num_threads(1)
        generator = torch.Generator(device).manual_seed(step * parts + index)
        loss = step_loss(model, shares[index], refine=step % 2 == 1, affinity=affinity, generator=generator) / parts
        loss.backward()
        return loss.item()

    return sum(pool.map(backward, range(parts)))


def encode(model: Sam, images: Tensor, corner: tuple[int, int]) -> Tensor:
    """Encode images of the model's size, or smaller ones as the part of it that begins at patch ``corner``.

    ``corner`` is (row, column). A part sees the position tables as it would in the whole, so that small images train
    the large model.
    """
    grid, part = SPEC.embedding, images.shape[-1] * SPEC.embedding // SPEC.size
    if part == grid:
        return model.encode(images)["image_embeddings"]
    row, column = corner
    encoder = model.image_encoder
    x = encoder.patch_embed(images) + encoder.pos_embed[:, row : row + part, column : column + part]
    for block in encoder.blocks:
        if block.window_size:
            x = block(x)
        else:
            x = x + attend_part(block.attn, block.norm1(x), grid)
            x = x + block.mlp(block.norm2(x))
    return encoder.neck(x.permute(0, 3, 1, 2))


def attend_part(attention: torch.nn.Module, x: Tensor, grid: int) -> Tensor:
    """``segment_anything``'s encoder attention on ``(B, part, part, C)`` of a ``grid`` x ``grid`` whole."""
    images, part = x.shape[:2]
    qkv = attention.qkv(x).reshape(images, part * part, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.flatten(1, 2).unbind(0)  # (B * heads, part * part, C / heads)
    scores = (query * attention.scale) @ key.transpose(1, 2)
    near = slice(grid - part, grid + part - 1)
    tables = attention.rel_pos_h[near], attention.rel_pos_w[near]
    scores = add_decomposed_rel_pos(scores, query, *tables, (part, part), (part, part))
    mixed = (scores.softmax(-1) @ value).view(images, -1, part, part, query.shape[-1])
    return attention.proj(mixed.permute(0, 2, 3, 1, 4).flatten(3))


def decode(
    model: Sam, embeddings: Tensor, prompts: Batch, corner: tuple[int, int], *, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """:meth:`Sam.decode` for the part of the model frame that begins at patch ``corner``."""
    grid, part = SPEC.embedding, embeddings.shape[-1]
    row, column = corner
    prompt_encoder, mask_decoder = model.prompt_encoder, model.mask_decoder
    matrix = prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    positions = decoder.grid_code(matrix, grid).unflatten(0, (grid, grid))
    positions = positions[row : row + part, column : column + part].flatten(0, 1)
    images = embeddings.flatten(2).transpose(1, 2).index_select(0, prompts["image_index"])
    has_mask = None if mask is None else mask.new_ones(len(mask))
    images = images + decoder.dense_prompts(prompt_encoder, mask, has_mask)
    offset = prompts["coords"].new_tensor([column, row]) * (SPEC.size / grid)
    asked = decoder.prompt_tokens(prompt_encoder, prompts["coords"] + offset, prompts["labels"])
    own = torch.cat([mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(asked), -1, -1), asked], dim=1)
    absent = F.pad((prompts["labels"] == decoder.NOTHING).to(tokens.dtype), (len(own), 0))
    bias = absent[:, None] * decoder.MASKED
    tokens, images = decoder.two_way(mask_decoder.transformer, tokens, images, positions, bias)
    logits = decoder.mask_logits(mask_decoder, tokens[:, 1 : len(own)], images, part)
    return logits, mask_decoder.iou_prediction_head(tokens[:, 0])


def mask_losses(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """BCE + dice of each of ``(n, L, L)`` logits, and its IoU after thresholding; cells count by their coverage."""
    logits, target, valid = logits.flatten(1).float(), target.flatten(1), valid.flatten(1)
    bce = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="none").sum(1) / valid.sum(1)
    probability = logits.sigmoid() * valid
    wanted = target * valid
    dice = 1 - (2 * (probability * wanted).sum(1) + 1) / (probability.sum(1) + wanted.sum(1) + 1)
    with torch.no_grad():
        found, truth = (logits > 0) & (valid > 0), target > 0.5
        union = (found | truth).sum(1).clamp(min=1)
        iou = (found & truth).sum(1) / union
    return bce + dice, iou


def point_loss(logits: Tensor, scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One-point prompts: token 0, the best of tokens 1-3, and the scores of all four. Summed over prompts."""
    many = logits.shape[1]
    loss, iou = mask_losses(logits.flatten(0, 1), target.repeat_interleave(many, 0), valid.repeat_interleave(many, 0))
    loss, iou = loss.unflatten(0, (-1, many)), iou.unflatten(0, (-1, many))
    best = loss[:, 1:].min(dim=1).values + 0.03 * loss[:, 1:].mean(dim=1)
    return (loss[:, 0] + best + (scores.float() - iou).square().mean(dim=1)).sum()


def single_loss(logits: Tensor, scores: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Prompts that leave no doubt: token 0 and its score. Summed over prompts."""
    loss, iou = mask_losses(logits[:, 0], target, valid)
    return (loss + (scores[:, 0].float() - iou).square()).sum()


def correction(logits: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random cell of each mask's error, as a model-frame point ``(n, 1, 2)`` with its label ``(n, 1)``."""
    low = target.shape[-1]
    cell_px = SPEC.size / SPEC.low_res
    truth = target > 0.5
    wrong = ((logits > 0) != truth).flatten(1).float() + 1e-6
    cell = torch.multinomial(wrong, 1, generator=generator)  # (n, 1)
    xy = torch.stack([cell % low, cell // low], dim=-1).float()
    return (xy + 0.5) * cell_px - 0.5, truth.flatten(1).gather(1, cell).long()


def affinity_loss(embeddings: Tensor, prompts: Batch, generator: torch.Generator) -> Tensor:
    """How badly the cosine to one cell of each object tells the object's cells from the others. Summed over prompts.

    It teaches the encoder what belongs together before the decoder has learned to ask.
    """
    side = embeddings.shape[-1]
    ratio = prompts["target"].shape[-1] // side
    target = F.avg_pool2d(prompts["target"], ratio).flatten(1)  # (P, N)
    valid = F.avg_pool2d(prompts["valid"], ratio).flatten(1)
    cell = torch.multinomial(target**2 + 1e-9, 1, generator=generator)  # (P, 1)
    unit = F.normalize(embeddings.float().flatten(2), dim=1)[prompts["image_index"]]  # (P, C, N)
    anchor = unit.gather(2, cell[:, None].expand(-1, unit.shape[1], -1))
    logits = 8 * ((anchor * unit).sum(1) - 0.5)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside, outside = target * valid, (1 - target) * valid
    return sum((loss * w).sum(1) / (w.sum(1) + 1e-3) for w in (inside, outside)).sum() / 2


def step_loss(model: Sam, batch: Batch, *, refine: bool, affinity: float, generator: torch.Generator) -> Tensor:
    """The mean loss over the prompts of ``batch``."""
    prompts = flat(batch)
    images = batch["image"]
    spare = (SPEC.size - images.shape[-1]) * SPEC.embedding // SPEC.size + 1
    row, column = torch.randint(spare, (2,), generator=generator, device=images.device).tolist()
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        embeddings = encode(model, images, (row, column))
        logits, scores = decode(model, embeddings, prompts, (row, column))
    is_point = prompts["kind"] == POINT
    target, valid = prompts["target"], prompts["valid"]
    total = point_loss(logits[is_point], scores[is_point], target[is_point], valid[is_point])
    single = single_loss(logits[~is_point], scores[~is_point], target[~is_point], valid[~is_point])
    total = total + SINGLE_WEIGHT * single
    total = total + affinity * affinity_loss(embeddings, prompts, generator)
    count = len(target)
    if refine:
        rows = (
            torch.arange(count, device=images.device).unflatten(0, (len(images), -1))[:, :REFINED_PER_IMAGE].flatten()
        )
        previous = logits[rows, 0].detach().float()
        point, label = correction(previous, target[rows], generator)
        asked = {
            "image_index": prompts["image_index"][rows],
            "coords": torch.cat([point, prompts["coords"][rows]], dim=1),
            "labels": torch.cat([label, prompts["labels"][rows]], dim=1),
        }
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            again = decode(model, embeddings, asked, (row, column), mask=previous.clamp(-32, 32)[:, None])
        total = total + single_loss(again[0], again[1], target[rows], valid[rows])
        count += len(rows)
    return total / count


@torch.no_grad()
def validate(model: Sam, images: int, photos: Photos | None = None) -> dict[str, float]:
    """Mean IoU in the model frame over held-out objects: by point and by box, token 0 and best-predicted.

    Args:
        model: float32.
        images: how many.
        photos: to judge on; generated scenes otherwise.
    """
    device = next(model.parameters()).device
    totals: dict[str, list[float]] = {"point": [], "point-best": [], "box": []}
    for index in range(images):
        one = example(VALIDATION_STREAM, index, validation=True, photos=photos)
        batch = {name: value[None].to(device) for name, value in one.items()}
        prompts = flat(batch)
        embeddings = model.encode(batch["image"])["image_embeddings"]
        logits, scores = model.decode(embeddings, prompts["image_index"], prompts["coords"], prompts["labels"])
        found = F.interpolate(logits, size=prompts["mask"].shape[-2:], mode="bilinear", align_corners=False) > 0
        truth = prompts["mask"][:, None]
        on_image = F.interpolate(prompts["valid"][:, None], size=truth.shape[-2:]) > 0
        found &= on_image
        iou = (found & truth).sum((2, 3)) / (found | truth).sum((2, 3))
        is_point = prompts["kind"] == POINT
        best = scores[:, 1:].argmax(1, keepdim=True) + 1
        totals["point"] += iou[is_point, 0].tolist()
        totals["point-best"] += iou.gather(1, best)[is_point, 0].tolist()
        totals["box"] += iou[~is_point, 0].tolist()
    return {name: sum(values) / len(values) for name, values in totals.items()}


def initialise(model: Sam) -> None:
    """``segment_anything`` leaves the position tables at zero; small values let them take part from the start."""
    torch.nn.init.trunc_normal_(model.image_encoder.pos_embed, std=0.02)
    for name, value in model.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.trunc_normal_(value, std=0.02)
    for name, module in model.mask_decoder.named_modules():
        if name.endswith(("token_to_image", "image_to_token")):  # equal places match from the start
            torch.nn.init.normal_(module.q_proj.weight, std=0.16)
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    code = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    code.copy_(code.half().float())  # a fixed table: the stored half precision is then exact


def make_optimizers(model: Sam, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformers, AdamW for everything else."""
    matrices, tables, vectors = [], [], []
    for name, value in model.named_parameters():
        is_matrix = value.ndim == 2 and name.endswith(".weight") and not any(table in name for table in TABLES)
        (matrices if is_matrix else vectors if value.ndim <= 1 else tables).append(value)
    groups = [{"params": tables, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    muon = torch.optim.Muon(matrices, lr=MUON_GAIN * lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
    for optimizer, gain in ((muon, MUON_GAIN), (adamw, 1.0)):
        for group in optimizer.param_groups:
            group["gain"] = gain
    return [muon, adamw]


def write(state: dict[str, Tensor], path: Path) -> None:
    """Save in half precision, under a temporary name first."""
    temporary = path.with_name(path.name + ".tmp")
    save_file({name: value.half().cpu().contiguous() for name, value in state.items()}, temporary)
    temporary.chmod(0o644)  # safetensors makes private files; this one is packaged
    temporary.replace(path)


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000, help="length of the run, resumed parts included")
    parser.add_argument("--first", type=int, default=0, help="position in the training stream where the run begins")
    parser.add_argument("--half-size", type=float, default=0.5, help="share of the images that come first, half-size")
    parser.add_argument("--photos", type=Path, help=f"folder of {', '.join(SOURCES)}; generated scenes alone without")
    parser.add_argument("--init", type=Path, help="weights to start from, as --out holds them; drawn anew without")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--batch", type=int, default=4, help="full-size images a step; twice as many half-size ones")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="that each train on a part of a batch: the CPU's cores, 1 on a GPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that make examples")
    parser.add_argument("--out", type=Path, default=ROOT / "python/samfast/models/tiny.safetensors")
    parser.add_argument("--state", type=Path, default=ROOT / "runs/train_tiny.pt", help="where to resume from")
    parser.add_argument("--validate-every", type=float, default=6, help="minutes")
    options = parser.parse_args()

    keep_heap()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    pool = ThreadPoolExecutor(options.threads or (os.cpu_count() or 1 if device.type == "cpu" else 1))
    torch.manual_seed(options.seed)
    if options.init:
        model = load_model("tiny", checkpoint=options.init).train()
    else:
        model = Sam(get_architecture("tiny"))
        initialise(model)
    model.to(device)
    photos, watched = (Photos(options.photos, split) if options.photos else None for split in ("train", "val"))
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizers = make_optimizers(model, options.lr)
    step, position, elapsed = 0, 0, 0.0  # the position counts from --first
    told = {
        name: str(getattr(options, name)) for name in ("first", "half_size", "photos", "init", "seed", "batch", "lr")
    }
    if options.state.exists():
        saved = torch.load(options.state, weights_only=True, map_location=device)
        if saved["told"] != told:
            parser.error(f"{options.state} is of a run with {saved['told']}: remove it, or name another --state")
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        average = saved["average"]
        step, position, elapsed = saved["step"], saved["position"], saved["elapsed"]
    shown = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    print(f"{sum(map(torch.numel, model.parameters())):,} parameters, from step {step}, {shown}", flush=True)

    def checkpoint() -> None:
        options.state.parent.mkdir(parents=True, exist_ok=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "average": average}
        temporary = options.state.with_name(options.state.name + ".tmp")
        torch.save(state | {"told": told, "step": step, "position": position, "elapsed": elapsed}, temporary)
        temporary.replace(options.state)
        write(average, options.out)

    def report(images: int) -> None:
        held_out = Sam(model.architecture).to(device).eval()
        held_out.load_state_dict({name: value.half().float() for name, value in average.items()})
        for title, source in {"scenes": None, "photographs": watched}.items() if watched else (("scenes", None),):
            figures = " ".join(f"{name} {value:.3f}" for name, value in validate(held_out, images, source).items())
            print(f"step {step} {elapsed / 60:.1f} min: held-out {title}, IoU {figures}", flush=True)

    stream, side, size = None, 0, 0
    clock, last_report, running = time.monotonic(), elapsed, 0.0
    while position < options.images:
        progress = position / options.images
        warmup = min(1.0, (step + 1) / WARMUP_STEPS)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["gain"] * options.lr * warmup * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        wanted = SPEC.size // 2 if progress < options.half_size else SPEC.size
        if wanted != side:
            side, size = wanted, options.batch * (SPEC.size // wanted)
            stream = batches(options.first + position, size, side, photos, options.workers)
        batch = next(stream)
        position += size
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        running += accumulate(model, batch, pool, step, AFFINITY * (1 - progress))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        decay = min(EMA_DECAY, (1 + step) / (20 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        now = time.monotonic()
        elapsed, clock = elapsed + now - clock, now
        if step % LOG_EVERY_STEPS == 0:
            print(f"step {step} {elapsed / 60:.1f} min: loss {running / LOG_EVERY_STEPS:.4f}", flush=True)
            running = 0.0
        if elapsed - last_report > options.validate_every * 60:
            last_report = elapsed
            checkpoint()
            report(16)
    checkpoint()
    report(100)


if __name__ == "__main__":
    main()
