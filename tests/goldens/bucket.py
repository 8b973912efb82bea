"""The place of the samples in the tests' bucket, and the commands that made them, which also go on with them."""

import functools
import importlib.util
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"
GOLDENS = "s3://faces/goldens"
NUM_FACES = 32
NUM_MANY = 300
"""Rows of the unfinished label run: one shard of 256, and a second one of 44."""

_ACTOR = ("--workers.max-actors", "1", "--workers.gpus-per-actor", "1")
_NETWORK = {"depth": "1", "embed_dim": "8", "num_heads": "1", "patch_size": "8", "mlp_ratio": "1"}
_TRAIN = (
    *("--data", f"{GOLDENS}/packed", "--model.backbone", "test_vit", "--model.no-pretrained"),
    *("--model.image-size", "32", "--model.args", *(word for pair in _NETWORK.items() for word in pair)),
    *("--optim.epochs", "2", "--optim.lr", "1e-3", "--feed.batch-size", "4", "--feed.block-rows", "8"),
    *("--augment.color", "0", "--augment.blur", "0", "--select.metric", "hat/f1", "--ray.no-dashboard"),
)
# Name of a sample -> its command, without --output.
COMMANDS: dict[str, tuple[str, ...]] = {
    "labels": ("pipelines/label.py", "--images", f"{GOLDENS}/faces/", "--model", "tiny", *_ACTOR),
    "labels_unfinished": ("pipelines/label.py", "--images", f"{GOLDENS}/many/", "--model", "tiny", *_ACTOR),
    "packed": (
        *("pipelines/pack.py", "--labels", f"{GOLDENS}/labels", "--source", "table", "--root", f"{GOLDENS}/faces"),
        *("--source-options.columns", "image=path", "tone=tone:dark|middle|light", "age=years:age"),
        *("person=who:identity", "--short-side-px", "32"),
        *("--splits.train", "0.5", "--splits.val", "0.25", "--splits.test", "0.25"),
    ),
    "model": ("pipelines/train.py", *_TRAIN),
    "model_unfinished": ("pipelines/train.py", *_TRAIN),
    "search_unfinished": (
        *("tune/search.py", "--data", f"{GOLDENS}/packed", "--space", f"{GOLDENS}/space.yaml", "--num-samples", "2"),
        *("--algorithm", "random", "--cache", "on", "--trials.stack", "off", "--trials.checkpoint-s", "1e-9"),
        *("--set", "model.backbone=test_vit", "model.pretrained=false", "model.image_size=32"),
        *(f"model.args={json.dumps(_NETWORK).replace(' ', '')}", "augment.strength=0", "optim.epochs=3"),
        *("feed.batch_size=4", "loss.main=hat"),
    ),
    "predictions": (
        *("pipelines/predict.py", "--model", f"{GOLDENS}/model", "--images", f"{GOLDENS}/faces/"),
        *("--labels", f"{GOLDENS}/labels", *_ACTOR),
    ),
    "evaluation": (
        *("pipelines/eval.py", "--model", f"{GOLDENS}/model", "--data", f"{GOLDENS}/packed"),
        *("--bootstrap.resamples", "100", *_ACTOR),
    ),
}
SPACE = "freeze.depth: all\noptim.lr: {loguniform: [1e-3, 1e-1]}\nloss.aux_weight: {uniform: [0, 1]}\n"


def run(name: str, *flags: str, output: str | None = None) -> int:
    """Runs the command of a sample, in this process, and gives its exit code.

    Args:
        name: of the sample.
        flags: more words.
        output: name of the folder in the bucket; by default that of the sample.
    """
    path, *words = COMMANDS[name]
    return script(path)([*words, "--output", f"{GOLDENS}/{output or name}", *flags])


@functools.cache
def script(path: str) -> Callable[[list[str]], int]:
    """The `main` of a script, which is imported under a name of its own, so that the types of its config are found."""
    name = f"goldens_{path.removesuffix('.py').replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main


def open_sample(name: str) -> Store:
    """The folder of a sample in the bucket."""
    return open_store(f"{GOLDENS}/{name}")


def place_sample(name: str, *, at: str | None = None) -> Store:
    """Puts a fresh copy of a stored sample into the bucket, under its own name or another."""
    store = open_sample(at or name)
    for key in [entry.key for entry in store.list()]:
        store.delete(key)
    folder = SAMPLES / name
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        data = path.read_bytes()
        store.put(path.relative_to(folder).as_posix(), with_current_versions(data) if path.name == "run.json" else data)
    return store


def with_current_versions(record: bytes) -> bytes:
    """A run.json whose fingerprint names the packages that are installed here.

    A run that was begun with another Pillow or torch is refused, as it should be; the samples were made with one day's
    packages, and what they are to show is that our own code still reads them.
    """
    content = json.loads(record)
    versions = content["fingerprint"].get("versions", {})
    versions.update({name: metadata.version(name) for name in versions})
    return json.dumps(content, indent=1).encode()


def place_images() -> None:
    """Puts the images that the samples name into the bucket: the faces, and copies of them under other names."""
    place_sample("faces")
    faces = [(SAMPLES / "faces" / f"{number:03d}.jpg").read_bytes() for number in range(NUM_FACES)]
    many = open_sample("many")
    for number in range(NUM_MANY):
        many.put(f"{number:03d}.jpg", faces[number % NUM_FACES])
    open_store(GOLDENS).put("space.yaml", SPACE.encode())
