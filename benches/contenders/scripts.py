"""The rivals, as public training scripts are written: segment_anything's own modules, a Python loop over images.

``encoder`` reads, preprocesses and encodes each image in every step, scales the logits to the image's original size and
takes its loss there. ``naive`` is what a competent person makes of that in an afternoon: embeddings kept in tensor
files, and the loss at the decoder's own resolution. Both draw prompts with numpy, decode the prompts of one image at a
time, and accumulate gradients over the images of a step. They teach token 0, and no IoU scores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torch.nn import functional as F

from contenders.job import ROWS, Job, Row, measure, waiter
from samfast.models.architecture import get_architecture
from samfast.models.checkpoints import load_model
from samfast.train.config import TrainConfig

Record = dict[str, Any]
"""An image's name and the files of it, see :mod:`contenders.prepare`."""


def stock_sam(model: str, checkpoint: str | None) -> Sam:
    """``segment_anything``'s own model, as its ``build_sam`` puts it together."""
    row = get_architecture(model)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=row.encoder_depth,
            embed_dim=row.encoder_dim,
            img_size=row.image_size,
            mlp_ratio=4,
            norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
            num_heads=row.encoder_heads,
            patch_size=row.patch_size,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=row.encoder_global_layers,
            window_size=row.encoder_window,
            out_chans=row.prompt_dim,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=row.prompt_dim,
            image_embedding_size=(row.embedding, row.embedding),
            input_image_size=(row.image_size, row.image_size),
            mask_in_chans=row.mask_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=row.prompt_dim, mlp_dim=row.decoder_mlp_dim, num_heads=row.decoder_heads
            ),
            transformer_dim=row.prompt_dim,
            iou_head_depth=row.iou_head_depth,
            iou_head_hidden_dim=row.iou_head_dim,
        ),
        pixel_mean=list(row.mean),
        pixel_std=list(row.std),
    )
    missing = sam.load_state_dict(load_model(model, checkpoint=checkpoint).state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"pixel_mean", "pixel_std"}
    return sam


class Script:
    """A training script: its model, its optimizer, and one step over the images of a batch."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.encodes_always = job.contender == "encoder"
        self.device = torch.device(job.device)
        self.sam = stock_sam(job.model, job.checkpoint).to(self.device)
        self.transform = ResizeLongestSide(self.sam.image_encoder.img_size)
        self.records: list[Record] = json.loads(Path(job.records).read_text())

    def begin(self, row: str) -> None:
        """A new optimizer, for training with the prompts of another row."""
        self.row: Row = ROWS[row]
        self.rng = np.random.default_rng(self.job.seed)
        settings = TrainConfig.make("flood-study")
        trained = [*self.sam.prompt_encoder.parameters(), *self.sam.mask_decoder.parameters()]
        self.sam.image_encoder.requires_grad_(False)
        self.optimizer = torch.optim.Adam(trained, lr=settings.lr)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=5, gamma=0.5)

    def epoch(self, number: int = 1) -> Iterator[int]:
        """Train on every image once, in a new order; yields the images of each step."""
        order = self.rng.permutation(len(self.records))
        for start in range(0, len(order), self.job.batch_size):
            batch = [self.records[index] for index in order[start : start + self.job.batch_size]]
            self.step(batch)
            yield len(batch)
        self.schedule.step()

    def step(self, batch: Sequence[Record]) -> None:
        self.optimizer.zero_grad()
        for record in batch:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.job.precision == "bf16"):
                embedding, image_size = self.embed(record)
                loss = self.loss(embedding, self.masks(record), image_size)
            (loss / len(batch)).backward()
        self.optimizer.step()

    def embed(self, record: Record) -> tuple[Tensor, tuple[int, int]]:
        """An image's embedding, and its size in the model frame."""
        if self.encodes_always:
            return self.encode(record)
        embedding = torch.load(record["embedding"], map_location=self.device)
        return embedding, (0, 0)

    @torch.no_grad()
    def encode(self, record: Record) -> tuple[Tensor, tuple[int, int]]:
        image = cv2.cvtColor(cv2.imread(record["image"]), cv2.COLOR_BGR2RGB)
        resized = self.transform.apply_image(image)
        pixels = torch.as_tensor(resized, device=self.device).permute(2, 0, 1)[None].contiguous()
        return self.sam.image_encoder(self.sam.preprocess(pixels)), tuple(resized.shape[:2])

    def masks(self, record: Record) -> NDArray[np.bool_]:
        """``(N, H, W)``, original frame, of the objects that take part."""
        count = min(self.job.objects, len(record["masks"]))
        chosen = self.rng.choice(len(record["masks"]), count, replace=False)
        return np.stack([cv2.imread(record["masks"][index], cv2.IMREAD_GRAYSCALE) > 127 for index in chosen])

    def loss(self, embedding: Tensor, masks: NDArray[np.bool_], image_size: tuple[int, int]) -> Tensor:
        """The mean over the objects of an image, the prompts of each, and the times each is asked."""
        original = masks.shape[1:]
        truth = np.repeat(masks if self.encodes_always else self.low_res(masks), self.row.prompts, axis=0)
        target = torch.from_numpy(truth).to(self.device).float()  # (P, H, W) or (P, l, l)
        coords, labels, boxes = self.first_prompts(masks)
        mask_input: Tensor | None = None
        losses = []
        for number in range(self.row.clicks):
            low_res = self.decode(embedding, coords, labels, boxes, mask_input, original)
            if self.encodes_always:
                logits = self.sam.postprocess_masks(low_res.float(), image_size, original)[:, 0]
            else:
                logits = low_res.float()[:, 0, : truth.shape[1], : truth.shape[2]]
            losses.append(bce_dice(logits, target))
            if number + 1 < self.row.clicks:
                xy, positive = self.corrections((logits.detach() > 0).cpu().numpy(), truth, original)
                coords = np.concatenate([coords, xy[:, None]], axis=1)
                labels = np.concatenate([labels, positive[:, None]], axis=1)
                mask_input = low_res.detach().float()
        return torch.stack(losses).mean()

    def low_res(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """``(P, h, w)``: masks scaled to the part of the decoder's output that the image covers."""
        side, _ = self.sam.prompt_encoder.mask_input_size
        height, width = self.transform.get_preprocess_shape(*masks.shape[1:], side)
        scaled = [cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) for mask in masks]
        return np.stack(scaled).astype(bool)

    def first_prompts(self, masks: NDArray[np.bool_]) -> tuple[NDArray, NDArray, NDArray | None]:
        """``(P, N, 2)`` points, ``(P, N)`` labels and ``(P, 4)`` boxes or None, original frame: boxes half the time
        where answers are corrected, else a point."""
        each = self.row.prompts
        if self.row.clicks > 1 and self.rng.random() < 0.5:
            boxes = np.concatenate([self.jittered_boxes(mask, each) for mask in masks])
            return np.zeros((len(boxes), 0, 2)), np.zeros((len(boxes), 0), np.int64), boxes
        points = np.concatenate([self.pixels(mask, each) for mask in masks])
        return points[:, None], np.ones((len(points), 1), np.int64), None

    def pixels(self, region: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        """``(count, 2)``."""
        ys, xs = np.nonzero(region)
        index = self.rng.integers(len(xs), size=count)
        return np.stack([xs[index], ys[index]], axis=1).astype(np.float64)

    def jittered_boxes(self, mask: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        """``(count, 4)``."""
        ys, xs = np.nonzero(mask)
        box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float64)
        side = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        reach = np.minimum(0.1 * side, 20)
        limit = np.array([mask.shape[1], mask.shape[0]] * 2) - 1
        return np.clip(box + self.rng.uniform(-reach, reach, (count, 4)), 0, limit)

    def corrections(
        self, answers: NDArray[np.bool_], truth: NDArray[np.bool_], original: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """A click in the error region of each answer, original frame, and whether it is on the object."""
        scale = np.array([original[1] / truth.shape[2], original[0] / truth.shape[1]])
        points, labels = [], []
        for answer, mask in zip(answers, truth, strict=True):
            wrong = answer != mask
            xy = self.pixels(wrong if wrong.any() else mask if mask.any() else ~mask, 1)[0]
            labels.append(int(mask[int(xy[1]), int(xy[0])] or not wrong.any()))
            points.append((xy + 0.5) * scale - 0.5)
        return np.stack(points), np.array(labels)

    def decode(
        self,
        embedding: Tensor,
        coords: NDArray,
        labels: NDArray,
        boxes: NDArray | None,
        mask_input: Tensor | None,
        original: tuple[int, ...],
    ) -> Tensor:
        """``(P, 1, low_res, low_res)`` logits of token 0 for the prompts of one image."""
        points = None
        if coords.shape[1]:
            placed = self.transform.apply_coords(coords, original)
            points = (self.tensor(placed), torch.from_numpy(labels).to(self.device))
        sparse, dense = self.sam.prompt_encoder(
            points=points,
            boxes=None if boxes is None else self.tensor(self.transform.apply_boxes(boxes, original)),
            masks=mask_input,
        )
        low_res, _ = self.sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return low_res

    def tensor(self, values: NDArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def bce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy and soft Dice, the mean over ``(P, H, W)`` masks."""
    probability = logits.sigmoid()
    shared = (probability * target).sum((1, 2))
    dice = 1 - (2 * shared + 1) / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def run(job: Job) -> dict[str, Any]:
    """See :func:`contenders.job.run`."""
    script = Script(job)
    wait = waiter(job.device)
    if job.task == "curve":
        from contenders.curves import judge

        script.begin(job.rows[0])
        return judge(job, script.epoch, script.sam.state_dict)
    answer: dict[str, Any] = {"rows": {}}
    if job.contender == "naive":
        answer["encode"] = time_encoding(script, job, wait)
    script.begin(job.rows[0])
    script.step(script.records[:1])
    for row in job.rows:
        script.begin(row)
        timing = measure(script.epoch, images=len(script.records), budget_s=job.budget_s, wait=wait)
        answer["rows"][row] = vars(timing)
    return answer


def time_encoding(script: Script, job: Job, wait: Callable[[], None]) -> dict[str, Any]:
    """Seconds an image to make the embedding files."""
    Path(job.encode_into).mkdir(exist_ok=True)

    def encode(record: Record) -> Tensor:
        with torch.autocast(script.device.type, torch.bfloat16, enabled=job.precision == "bf16"):
            return script.encode(record)[0]

    encode(script.records[0])  # the first pass of a process costs more
    wait()
    start = time.perf_counter()
    for record in script.records[: job.encodes]:
        torch.save(encode(record).float().cpu(), f"{job.encode_into}/embedding.pt")
    return {"image_s": (time.perf_counter() - start) / job.encodes, "images": job.encodes}
