"""Our defaults against the plain recipe: macro F1 and accuracy, mean and spread over seeds.

python tests/benchmarks/bench_recipes.py --fairface FOLDER --output results.jsonl
python tests/benchmarks/bench_recipes.py --fairface FOLDER --output results.jsonl --device cuda --processes 16

Sections (`--sections`): `scratch` trains from random weights by Adam at 1e-4 and at 3e-3 (batch 32, plain sum of
losses, no augmentation) and by our defaults; `trained` starts from weights learnt on the other set, by our defaults
and by the former ones. Needs no Ray. Runs that are in --output already are not done again, so a stopped benchmark goes
on; `--budget-s` ends it in time and says what is missing.
"""

import argparse
import csv
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.demo.faces import write_faces
from tests.benchmarks.recipe_runs import BEFORE, Run, train

NUM_DRAWN = {"train": 4_000, "val": 1_000}
FAIRFACE_COLUMNS = {"age_group": "age", "gender": "gender", "race": "race"}
DRAWN = ("hat", "glasses", "facial_hair")
PLAIN = ("plain 1e-4", "plain 3e-3")


def prepare(folder: Path, paths: dict[str, list[Path]], labels: dict[str, dict[str, list[str]]], side_px: int) -> Path:
    """Decodes and shrinks once; all runs read the same arrays."""
    folder.mkdir(parents=True)
    classes = {name: sorted({*labels["train"][name], *labels["val"][name]}) for name in labels["train"]}
    for split, files in paths.items():
        pixels = np.empty((len(files), 3, side_px, side_px), np.uint8)
        for number, path in enumerate(files):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
            pixels[number] = np.asarray(small).transpose(2, 0, 1)
        np.save(folder / f"{split}.npy", pixels)
    indices = {
        split: {name: [classes[name].index(value) for value in values] for name, values in columns.items()}
        for split, columns in labels.items()
    }
    (folder / "about.json").write_text(json.dumps({"classes": classes, "labels": indices}))
    return folder


def prepare_fairface(folder: Path, source: Path, side_px: int) -> Path:
    paths, labels = {}, {}
    for split in ("train", "val"):
        with (source / f"fairface_label_{split}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        paths[split] = [source / row["file"] for row in rows]
        labels[split] = {name: [row[column] for row in rows] for name, column in FAIRFACE_COLUMNS.items()}
    return prepare(folder, paths, labels, side_px)


def prepare_drawn(folder: Path, side_px: int, processes: int) -> Path:
    paths, labels = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, (split, count) in enumerate(NUM_DRAWN.items()):
            truth = write_faces(Path(scratch) / split, count, 7_000_000 + seed, size_px=side_px, processes=processes)
            with truth.open(newline="") as file:
                rows = list(csv.DictReader(file))
            paths[split] = [truth.parent / row["image_path"] for row in rows]
            labels[split] = {name: [("no", "yes")[int(row[name])] for row in rows] for name in DRAWN}
        return prepare(folder, paths, labels, side_px)


def list_runs(given: argparse.Namespace, sets: dict[str, Path]) -> Iterator[tuple[str, str, Run]]:
    """(section, name of the set, run), the quick ones first."""
    variants: dict[str, dict[str, Any]] = {} if given.no_ours else {"ours": {}}
    for text in given.also:
        variants[f"ours [{text}]"] = dict(_read_setting(each) for each in text.split())
    for epochs, seed, name in itertools.product(given.epochs, range(given.seeds), sets):
        shared = {"data": sets[name], "seed": seed, "backbone": given.backbone, "size_px": given.size}
        shared |= {"device": given.device}
        if "scratch" in given.sections:
            for recipe in given.plain:
                yield "scratch", name, Run(recipe=recipe, epochs=epochs, settings={}, **shared)
            for recipe, settings in variants.items():
                yield "scratch", name, Run(recipe=recipe, epochs=epochs, settings=settings, **shared)
        if "trained" in given.sections and epochs == given.epochs[0]:
            (other,) = [each for each in sets if each != name]
            start = given.scratch / f"start-{other}"
            for recipe, settings in ({"before": BEFORE} | variants).items():
                yield "trained", name, Run(recipe=recipe, epochs=epochs, settings=settings, checkpoint=start, **shared)


def _read_setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def make_starts(given: argparse.Namespace, sets: dict[str, Path]) -> None:
    """One model a set, by our defaults for 20 epochs: a stand-in for published weights."""
    with ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [
            Run(
                recipe="ours",
                data=path,
                epochs=20,
                seed=100,
                backbone=given.backbone,
                size_px=given.size,
                device=given.device,
                settings={},
                keep=given.scratch / f"start-{name}",
            )
            for name, path in sets.items()
            if not (given.scratch / f"start-{name}").exists()
        ]
        list(pool.map(train, runs))


def run_all(given: argparse.Namespace, sets: dict[str, Path]) -> None:
    deadline = time.monotonic() + given.budget_s
    done = {_key(each) for each in read_results(given.output)}
    todo = []
    for section, name, run in list_runs(given, sets):
        about = {"section": section, "set": name, "epochs": run.epochs, "recipe": run.recipe, "seed": run.seed}
        if _key(about) not in done:
            todo.append((about, run))
    pending: dict[Future[Any], dict[str, Any]] = {}
    with ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while (todo and time.monotonic() < deadline) or pending:
            while todo and len(pending) < given.processes and time.monotonic() < deadline:
                about, run = todo.pop(0)
                pending[pool.submit(train, run)] = about
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                result = pending.pop(future) | {"figures": future.result()}
                with given.output.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                means = {name: round(each["macro_f1"], 3) for name, each in result["figures"].items()}
                print(*(result[key] for key in ("section", "set", "epochs", "recipe", "seed")), means, flush=True)
    if todo:
        print(f"--budget-s {given.budget_s:g} is over: {len(todo)} runs are missing; the same command does them")


def _key(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result[name] for name in ("section", "set", "epochs", "recipe", "seed"))


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(path: Path) -> None:
    """The table: macro F1, mean and spread (largest less smallest) over seeds, and mean accuracy."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for result in read_results(path):
        groups[_key(result)[:4]].append(result["figures"])
    print("\n| start | set | epochs | recipe | seeds | macro F1, mean ± spread (accuracy) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (section, name, epochs, recipe), figures in sorted(groups.items(), key=lambda item: item[0]):
        cells = []
        for attribute in figures[0]:
            values = [each[attribute]["macro_f1"] for each in figures]
            accuracy = statistics.mean(each[attribute]["accuracy"] for each in figures)
            spread = max(values) - min(values)
            cells.append(f"{attribute} {statistics.mean(values):.3f} ± {spread:.3f} ({accuracy:.3f})")
        print(f"| {section} | {name} | {epochs} | {recipe} | {len(figures)} | {'; '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fairface", type=Path, help="folder with train/, val/ and their label CSVs; none: drawn alone"
    )
    parser.add_argument("--output", type=Path, required=True, help="results, one JSON line a run")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "bench-recipes")
    parser.add_argument("--sections", nargs="+", choices=("scratch", "trained"), default=["scratch"])
    parser.add_argument("--sets", nargs="+", choices=("fairface", "drawn"), default=["fairface", "drawn"])
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=64, help="side that the network sees, px")
    parser.add_argument("--stored", type=int, default=80, help="side of the images in memory, px")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--also", nargs="*", default=[], help="more settings of ours: 'optim.lr=0.003 feed.batch_size=32'"
    )
    parser.add_argument("--plain", nargs="*", choices=PLAIN, default=PLAIN, help="plain recipes; none: ours alone")
    parser.add_argument("--no-ours", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--budget-s", type=float, default=3_600)
    given = parser.parse_args()
    sets = {}
    if given.fairface and "fairface" in given.sets:
        path = given.scratch / f"fairface-{given.stored}"
        sets["fairface"] = path if path.exists() else prepare_fairface(path, given.fairface, given.stored)
    if "drawn" in given.sets:
        path = given.scratch / f"drawn-{given.stored}"
        sets["drawn"] = path if path.exists() else prepare_drawn(path, given.stored, given.processes)
    if "trained" in given.sections:
        make_starts(given, sets)
    run_all(given, sets)
    show(given.output)


if __name__ == "__main__":
    main()
