"""Trains the tiny BLIP in `assets/tiny-blip` on drawn faces only.

With the language loss alone training would take too long, so it has three stages: the vision tower on labels and on
the parts that each patch shows; then the text towers on its frozen states; then everything together.

    python -m faceattr.demo.teacher --output DIR        about 20 CPU-minutes on one core
"""

import argparse
import logging
import math
import multiprocessing
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertTokenizer, BlipForQuestionAnswering

from faceattr.demo.drawing import Part
from faceattr.demo.faces import LABEL_NAMES, build_face_rng, draw_face
from faceattr.demo.tiny_blip import (
    IMAGE_PX,
    PATCH_PX,
    build_image_processor,
    build_model,
    build_tokenizer,
    compute_answer_loss,
    save_tiny_blip,
)
from faceattr.demo.wordings import Wording, build_wordings
from faceattr.logs import configure_logging

# Not __name__, which is "__main__" under `python -m`.
logger = logging.getLogger("faceattr.demo.teacher")

_GRID = IMAGE_PX // PATCH_PX
# Series of drawings for training only; tests and the demo use small seeds.
TRAINING_SEED = 7_310_331
# A part counts as visible in a patch if it covers at least this share of its pixels; a glasses frame covers few.
_SEEN_SHARE = 0.06


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Settings of a training run.

    Attributes:
        num_faces: number of drawings, made once and kept in memory.
        vision_steps: number of steps of the vision tower alone.
        text_steps: number of steps of the text towers alone.
        joint_steps: number of steps of all parts together.
        batch_size: number of images in a step.
        seed: seed of the weights and of the order of images and questions.
        num_workers: number of drawing processes.
    """

    num_faces: int = 18_000
    vision_steps: int = 1_800
    text_steps: int = 300
    joint_steps: int = 600
    batch_size: int = 32
    seed: int = 0
    num_workers: int = 2


@dataclass(frozen=True)
class TrainingFaces:
    """Drawings as training data.

    Attributes:
        images: uint8 [n, 3, 96, 96].
        labels: float32 [n, labels], 0 or 1, in the order of `LABEL_NAMES`.
        patches: bool [n, 12, 12, parts], whether a part is visible in a patch.
    """

    images: Tensor
    labels: Tensor
    patches: Tensor


class VisionHeads(nn.Module):
    """Linear heads used only in training: labels from the mean of the patches, parts from each patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.label_head = nn.Linear(width, len(LABEL_NAMES))
        self.part_head = nn.Linear(width, len(Part))

    def forward(self, states: Tensor, labels: Tensor, patches: Tensor) -> Tensor:
        """Returns the sum of both losses for image states [n, 1 + patches, width]."""
        tokens = states[:, 1:]
        label_loss = functional.binary_cross_entropy_with_logits(self.label_head(tokens.mean(dim=1)), labels)
        part_logits = self.part_head(tokens)
        part_loss = functional.binary_cross_entropy_with_logits(part_logits, patches.flatten(1, 2).float())
        return label_loss + part_loss


def _draw_one(index: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    face = draw_face(build_face_rng(TRAINING_SEED, index))
    # The same resize, on uint8, as in the image processor.
    pixels = torch.from_numpy(face.image).permute(2, 0, 1)[None]
    small = functional.interpolate(pixels, (IMAGE_PX, IMAGE_PX), mode="bicubic", antialias=True)[0]
    rows = (np.arange(IMAGE_PX) * face.parts.shape[0]) // IMAGE_PX
    parts = face.parts[np.ix_(rows, rows)].reshape(_GRID, PATCH_PX, _GRID, PATCH_PX)
    seen = (parts[..., None] == np.arange(len(Part))).mean(axis=(1, 3)) > _SEEN_SHARE
    return small.numpy(), [face.labels[name] for name in LABEL_NAMES], seen


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def draw_training_faces(count: int, *, num_workers: int = 1) -> TrainingFaces:
    """Draws the first `count` faces of the training series, in this process if there is only one worker."""
    if num_workers <= 1:
        rows = [_draw_one(index) for index in range(count)]
    else:
        # Spawned, because a fork of a process whose torch threads have run can hang.
        with multiprocessing.get_context("spawn").Pool(num_workers, _use_one_thread) as pool:
            rows = pool.map(_draw_one, range(count), chunksize=100)
    return TrainingFaces(
        images=torch.from_numpy(np.stack([row[0] for row in rows])),
        labels=torch.tensor([row[1] for row in rows], dtype=torch.float32),
        patches=torch.from_numpy(np.stack([row[2] for row in rows])),
    )


class Trainer:
    """Runs the three stages on one model.

    Args:
        model: trained in place.
        tokenizer: made by `build_tokenizer`.
        faces: training data.
        config: sizes and seed.
    """

    def __init__(
        self,
        model: BlipForQuestionAnswering,
        tokenizer: BertTokenizer,
        faces: TrainingFaces,
        config: TeacherConfig,
    ) -> None:
        self.model = model
        self.heads = VisionHeads(model.config.vision_config.hidden_size)
        self.faces = faces
        self.config = config
        self._rng = np.random.default_rng(config.seed)
        processor = build_image_processor()
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1) * 255
        self._std = torch.tensor(processor.image_std).view(3, 1, 1) * 255
        # Token ids per attribute; every wording has its own length.
        self._questions: dict[str, list[tuple[Wording, Tensor]]] = {name: [] for name in LABEL_NAMES}
        for wording in build_wordings():
            if not wording.held_out:
                ids = torch.tensor([tokenizer(wording.text).input_ids])
                self._questions[wording.attribute].append((wording, ids))
        begin, end = model.config.text_config.bos_token_id, model.config.text_config.sep_token_id
        answers = tokenizer.convert_tokens_to_ids(["no", "yes"])
        self._answers = torch.tensor([[begin, answer, end] for answer in answers])

    def train(self) -> None:
        """Runs all three stages in order."""
        self.train_vision(self.config.vision_steps)
        self.train_text(self.config.text_steps)
        self.train_jointly(self.config.joint_steps)

    def train_vision(self, steps: int) -> list[float]:
        """Trains the vision tower on labels and parts; returns the loss of every step."""
        return self._run("vision", steps, 2e-3, [self.model.vision_model, self.heads], self._vision_loss)

    def train_text(self, steps: int) -> list[float]:
        """Trains the text towers on frozen image states; returns the loss of every step."""
        return self._run("text", steps, 2e-3, [self.model.text_encoder, self.model.text_decoder], self._text_loss)

    def train_jointly(self, steps: int) -> list[float]:
        """Trains everything, with the vision losses at half weight; returns the loss of every step."""
        return self._run("joint", steps, 8e-4, [self.model, self.heads], self._joint_loss)

    def _run(
        self,
        stage: str,
        steps: int,
        rate: float,
        modules: Sequence[nn.Module],
        loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> list[float]:
        parameters = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
        warmup = max(1, min(100, steps // 10))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01),
        )
        losses: list[float] = []
        start = time.monotonic()
        self.model.train()
        for step in range(1, steps + 1):
            loss = loss_of(*self._next_batch())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            if step % 50 == 0 or step == steps:
                elapsed_s = time.monotonic() - start
                logger.info("stage=%s step=%d loss=%.4f elapsed_s=%.0f", stage, step, np.mean(losses[-50:]), elapsed_s)
        self.model.eval()
        return losses

    def _next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.from_numpy(self._rng.integers(len(self.faces.images), size=self.config.batch_size))
        images, patches = self.faces.images[rows], self.faces.patches[rows]
        if self._rng.random() < 0.5:
            images, patches = images.flip(3), patches.flip(2)
        return (images.float() - self._mean) / self._std, self.faces.labels[rows], patches

    def _vision_loss(self, pixels: Tensor, labels: Tensor, patches: Tensor) -> Tensor:
        states = self.model.vision_model(pixels).last_hidden_state
        return self.heads(states, labels, patches)

    def _text_loss(self, pixels: Tensor, labels: Tensor, _patches: Tensor) -> Tensor:
        with torch.no_grad():
            states = self.model.vision_model(pixels).last_hidden_state
        return self._answer_loss(states, labels)

    def _joint_loss(self, pixels: Tensor, labels: Tensor, patches: Tensor) -> Tensor:
        states = self.model.vision_model(pixels).last_hidden_state
        return self._answer_loss(states, labels) + 0.5 * self.heads(states, labels, patches)

    def _answer_loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean of -log p per answer token; each attribute has two groups of images, one wording each."""
        losses = []
        for column, name in enumerate(LABEL_NAMES):
            for rows in torch.arange(len(states)).chunk(2):
                wording, ids = self._questions[name][self._rng.integers(len(self._questions[name]))]
                truth = labels[rows, column].long()
                answers = self._answers[truth if wording.positive else 1 - truth]
                losses.append(compute_answer_loss(self.model, states[rows], ids, answers))
        return torch.stack(losses).mean()


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the faces, trains the model and saves it."""
    parser = argparse.ArgumentParser(prog="python -m faceattr.demo.teacher", description="Trains the demo's tiny BLIP.")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="factor on the number of steps of all stages")
    parser.add_argument("--num-faces", type=int, default=TeacherConfig.num_faces, help="number of training drawings")
    parser.add_argument("--num-workers", type=int, default=TeacherConfig.num_workers, help="drawing processes")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the training order")
    args = parser.parse_args(argv)
    configure_logging()
    torch.set_num_threads(args.threads)
    default = TeacherConfig()
    config = TeacherConfig(
        num_faces=args.num_faces,
        vision_steps=max(1, round(default.vision_steps * args.steps_scale)),
        text_steps=max(1, round(default.text_steps * args.steps_scale)),
        joint_steps=max(1, round(default.joint_steps * args.steps_scale)),
        seed=args.seed,
        num_workers=args.num_workers,
    )
    start = time.monotonic()
    faces = draw_training_faces(config.num_faces, num_workers=config.num_workers)
    logger.info("event=drawn faces=%d elapsed_s=%.0f", config.num_faces, time.monotonic() - start)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=config.seed)
    Trainer(model, tokenizer, faces, config).train()
    save_tiny_blip(model, tokenizer, args.output)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"saved {num_parameters} parameters to {args.output} after {time.monotonic() - start:.0f} s")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
