"""Trains a tiny CLIP on drawn faces and their captions; it is not shipped.

The contrastive loss is CLIP's, between all images and all captions of a batch. Other images' captions may be true of an
image as well, so that the target of each softmax is uniform over what is true (as in UniCL, Yang et al. 2022). The
vision tower also learns which parts each patch shows, without which training would take too long.

    python -m faceattr.demo.tiny_clip.train --output DIR        about 20 CPU-minutes on one core
"""

import argparse
import json
import logging
import math
import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from faceattr.demo.drawing import Part
from faceattr.demo.faces import LABEL_NAMES
from faceattr.demo.teacher import TrainingFaces, draw_training_faces
from faceattr.demo.tiny_blip import IMAGE_PX, PATCH_PX
from faceattr.demo.tiny_clip.captions import CAPTIONED, Caption, draw_caption, list_prompts
from faceattr.logs import configure_logging

# Not __name__, which is "__main__" under `python -m`.
logger = logging.getLogger("faceattr.demo.tiny_clip")

_MOST_TOKENS = 48
_START, _END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own bound.
_MOST_SCALE = math.log(100)


@dataclass(frozen=True, kw_only=True)
class TinyClipConfig:
    """Settings of a training.

    Attributes:
        num_faces: number of drawings, made once and kept in memory.
        steps: number of steps.
        batch_size: number of images, and of captions, in a step.
        seed: seed of the weights and of the order of images and captions.
        num_workers: number of drawing processes.
    """

    num_faces: int = 9_000
    steps: int = 1_200
    batch_size: int = 32
    seed: int = 0
    num_workers: int = 1


def build_clip_tokenizer() -> CLIPTokenizer:
    """Builds a byte-pair tokenizer in CLIP's manner that has most words of the captions as one token."""
    rng = np.random.default_rng(0)
    labels = [dict(zip(CAPTIONED, row, strict=True)) for row in rng.integers(0, 2, size=(4_000, len(CAPTIONED)))]
    texts = [draw_caption(each, rng, without=frozenset()).text for each in labels]
    empty = CLIPTokenizer().backend_tokenizer
    alphabet = [*"abcdefghijklmnopqrstuvwxyz0123456789?,.'-"]
    trainer = BpeTrainer(
        vocab_size=500,
        show_progress=False,
        special_tokens=[_START, _END],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
    )
    empty.train_from_iterator(texts, trainer)
    learnt = json.loads(empty.to_str())["model"]
    vocabulary, merges = learnt["vocab"], [tuple(pair) for pair in learnt["merges"]]
    # Words outside the captions are spelt.
    for letter in alphabet:
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_MOST_TOKENS)


def build_tiny_clip(tokenizer: CLIPTokenizer, *, seed: int = 0) -> CLIPModel:
    """Builds a randomly initialised CLIP of about 0.8 million parameters."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=text
        | ids
        | {"vocab_size": len(tokenizer), "max_position_embeddings": _MOST_TOKENS, "pad_token_id": ids["eos_token_id"]},
        vision_config=vision | {"image_size": IMAGE_PX, "patch_size": PATCH_PX},
        projection_dim=64,
    )
    torch.manual_seed(seed)
    return CLIPModel(config)


def build_clip_processor() -> CLIPImageProcessor:
    """Builds CLIP's usual processor in this model's size."""
    return CLIPImageProcessor(size={"shortest_edge": IMAGE_PX}, crop_size={"height": IMAGE_PX, "width": IMAGE_PX})


def compute_contrastive_loss(images: Tensor, texts: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Returns the mean of both directions' cross-entropies.

    Args:
        images: float32 [n, D], of length 1.
        texts: float32 [m, D], of length 1.
        truth: bool [n, m], whether a text is true of an image; each row and column has one that is.
        scale: float32 [], factor of the cosines.
    """
    logits = scale * images @ texts.T
    targets = truth.float()
    by_image = functional.cross_entropy(logits, targets / targets.sum(dim=1, keepdim=True))
    by_text = functional.cross_entropy(logits.T, targets.T / targets.T.sum(dim=1, keepdim=True))
    return (by_image + by_text) / 2


class ClipTrainer:
    """Trains one model in place.

    Args:
        model: from `build_tiny_clip`.
        tokenizer: its tokenizer.
        faces: training data.
        config: sizes and seed.
    """

    def __init__(
        self, model: CLIPModel, tokenizer: CLIPTokenizer, faces: TrainingFaces, config: TinyClipConfig
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.faces = faces
        self.config = config
        self.part_head = nn.Linear(model.config.vision_config.hidden_size, len(Part))
        self._rng = np.random.default_rng(config.seed)
        self._prompts = list_prompts()
        processor = build_clip_processor()
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1) * 255
        self._std = torch.tensor(processor.image_std).view(3, 1, 1) * 255

    def train(self) -> list[float]:
        """Runs all steps; returns the contrastive loss of each."""
        steps = self.config.steps
        parameters = [*self.model.parameters(), *self.part_head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05)
        warmup = max(1, min(100, steps // 10))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01),
        )
        losses: list[float] = []
        start = time.monotonic()
        self.model.train()
        for step in range(1, steps + 1):
            contrastive, parts = self._compute_losses()
            optimizer.zero_grad(set_to_none=True)
            (contrastive + parts).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(max=_MOST_SCALE)
            losses.append(contrastive.item())
            if step % 50 == 0 or step == steps:
                elapsed_s = time.monotonic() - start
                logger.info("step=%d loss=%.4f elapsed_s=%.0f", step, np.mean(losses[-50:]), elapsed_s)
        self.model.eval()
        return losses

    def _compute_losses(self) -> tuple[Tensor, Tensor]:
        """Returns the contrastive loss and the loss of the parts, of a batch."""
        rows = torch.from_numpy(self._rng.integers(len(self.faces.images), size=self.config.batch_size))
        images, patches, labels = self.faces.images[rows], self.faces.patches[rows], self.faces.labels[rows]
        if self._rng.random() < 0.5:
            images, patches = images.flip(3), patches.flip(2)
        faces = [dict(zip(LABEL_NAMES, row, strict=True)) for row in labels.int().tolist()]
        captions = [draw_caption(face, self._rng, without=self._prompts) for face in faces]
        vision = self.model.vision_model(pixel_values=(images.float() - self._mean) / self._std)
        tokens = self.tokenizer([each.text for each in captions], padding=True, return_tensors="pt")
        image_embeddings = functional.normalize(self.model.visual_projection(vision.pooler_output), dim=1)
        text_embeddings = functional.normalize(self.model.get_text_features(**tokens).pooler_output, dim=1)
        contrastive = compute_contrastive_loss(
            image_embeddings, text_embeddings, find_truth(faces, captions), self.model.logit_scale.exp()
        )
        part_logits = self.part_head(vision.last_hidden_state[:, 1:])
        parts = functional.binary_cross_entropy_with_logits(part_logits, patches.flatten(1, 2).float())
        return contrastive, parts


def find_truth(faces: Sequence[dict[str, int]], captions: Sequence[Caption]) -> Tensor:
    """Returns bool [faces, captions]: whether all that a caption says is true of a face."""
    rows = [[all(face[name] == value for name, value in each.says.items()) for each in captions] for face in faces]
    return torch.tensor(rows)


def save_tiny_clip(model: CLIPModel, tokenizer: CLIPTokenizer, output: pathlib.Path) -> None:
    """Writes model, tokenizer and image processor in the layout that `from_pretrained` reads."""
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    build_clip_processor().save_pretrained(output)


def main(argv: Sequence[str] | None = None) -> None:
    """Trains with the given settings and writes the checkpoint."""
    configure_logging()
    parser = argparse.ArgumentParser(description="Trains a tiny CLIP on drawn faces and captions.")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--num-faces", type=int, default=TinyClipConfig.num_faces)
    parser.add_argument("--steps", type=int, default=TinyClipConfig.steps)
    parser.add_argument("--seed", type=int, default=TinyClipConfig.seed)
    args = parser.parse_args(argv)
    config = TinyClipConfig(num_faces=args.num_faces, steps=args.steps, seed=args.seed)
    tokenizer = build_clip_tokenizer()
    model = build_tiny_clip(tokenizer, seed=config.seed)
    faces = draw_training_faces(config.num_faces, num_workers=config.num_workers)
    logger.info("drawn faces=%d tokens=%d parameters=%d", config.num_faces, len(tokenizer), model.num_parameters())
    ClipTrainer(model, tokenizer, faces, config).train()
    save_tiny_clip(model, tokenizer, args.output)


if __name__ == "__main__":
    main()
