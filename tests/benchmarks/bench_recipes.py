"""Our defaults against the recipes of the systems that we replace: macro F1 and accuracy, mean and spread over seeds.

python tests/benchmarks/bench_recipes.py --fairface FOLDER --output results.jsonl
python tests/benchmarks/bench_recipes.py --fairface FOLDER --output results.jsonl --device cuda --processes 16

Sections (`--sections`), at equal epochs, network, images and split:

scratch   from random weights: our defaults, and Adam at 1e-4 and at 3e-3 (batch 32, sum of losses, no augmentation)
systems   from random weights: the recipes of the five replaced systems, each at its own rate and at 3e-3; what stands
          in for their published weights is said in `recipe_plain.py`
labels    damaged training labels (`VARIANTS` in `recipe_sets.py`): Adam at 3e-3 and our defaults. Of doubtful labels
          ours learn the scores, or the labels alone; of missing ones also the complete rows alone, as the peer does
trained   from weights learnt on the other set: our defaults and the former ones
distil    drawn faces, labelled by a blunt teacher (`recipe_distil.py`): the teacher, and our ways to learn from it

Needs no Ray. Runs that are in --output already are not done again, so a stopped benchmark goes on; `--budget-s` ends it
in time and says what is missing.
"""

import argparse
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.recipe_distil import STUDENTS, TEACHER_PX, TEACHERS, prepare_teacher
from tests.benchmarks.recipe_plain import SYSTEMS
from tests.benchmarks.recipe_runs import BEFORE, Run, train
from tests.benchmarks.recipe_sets import VARIANTS, load_image_set, prepare_drawn, prepare_fairface

PLAIN = ("plain 1e-4", "plain 3e-3")
SECTIONS = ("scratch", "systems", "labels", "trained", "distil")


def list_runs(given: argparse.Namespace, sets: dict[str, Path]) -> Iterator[tuple[str, str, Run]]:
    """(section, name of the set, run), the quick ones first."""
    ours: dict[str, dict[str, Any]] = {} if given.no_ours else {"ours": {}}
    for text in given.also:
        ours[f"ours [{text}]"] = dict(_read_setting(each) for each in text.split())
    basic = Run(
        recipe="plain 3e-3",
        data=given.scratch,
        epochs=1,
        seed=0,
        backbone=given.backbone,
        size_px=given.size,
        device=given.device,
        settings={},
        num_train=given.num_train,
    )
    for epochs, seed in itertools.product(given.epochs, range(given.seeds)):
        for name, path in sets.items():
            run = replace(basic, data=path, epochs=epochs, seed=seed)
            others = [given.scratch / f"start-{each}" for each in sets if each != name]
            for section, runs in (
                ("scratch", _scratch(run, given.plain, ours)),
                ("systems", _systems(run, given.rates)),
                ("labels", _damaged(run, ours)),
                ("trained", _trained(run, others, ours)),
            ):
                if section in given.sections:
                    yield from ((section, name, each) for each in runs)
        if "distil" in given.sections:
            for kind, student in itertools.product(given.teachers, ("teacher", *given.students)):
                run = replace(basic, data=_distil_set(given), epochs=epochs, seed=seed, recipe=student)
                yield "distil", f"drawn, {kind}", replace(run, teacher=_teacher(given, kind, seed))


def _scratch(run: Run, plain: list[str], ours: dict[str, dict[str, Any]]) -> Iterator[Run]:
    yield from (replace(run, recipe=each) for each in plain)
    yield from (replace(run, recipe=each, settings=settings) for each, settings in ours.items())


def _systems(run: Run, rates: list[str]) -> Iterator[Run]:
    for system, rate in itertools.product(SYSTEMS, rates):
        yield replace(run, recipe=system if rate == "own" else f"{system} at {rate}")


def _damaged(run: Run, ours: dict[str, dict[str, Any]]) -> Iterator[Run]:
    for name, variant in VARIANTS.items():
        if name == "as given":
            continue
        damaged = replace(run, variant=name)
        yield damaged
        for recipe, settings in ours.items():
            if variant.doubt:
                yield replace(damaged, recipe=f"{recipe}, hard", settings=settings | {"loss.soft_labels": False})
            if variant.missing:
                yield replace(damaged, recipe=f"{recipe}, complete rows", settings=settings, complete=True)
            yield replace(damaged, recipe=recipe, settings=settings)


def _trained(run: Run, starts: list[Path], ours: dict[str, dict[str, Any]]) -> Iterator[Run]:
    for start, (recipe, settings) in itertools.product(starts, ({"before": BEFORE} | ours).items()):
        yield replace(run, recipe=recipe, settings=settings, checkpoint=start)


def _distil_set(given: argparse.Namespace) -> Path:
    return given.scratch / "distil"


def _teacher(given: argparse.Namespace, kind: str, seed: int) -> Path:
    return given.scratch / f"teacher-{kind}-{seed}.pt"


def make_teachers(given: argparse.Namespace) -> None:
    """Draws faces in the size of the teachers, and has each label them."""
    path = _distil_set(given)
    if not path.exists():
        prepare_drawn(path, TEACHER_PX, given.processes, drawn_px=160)
    data = load_image_set(path)
    for seed, kind in itertools.product(range(given.seeds), given.teachers):
        path = _teacher(given, kind, seed)
        if not path.exists():
            prepare_teacher(path, data, kind=kind, seed=seed)


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
    missing = []
    for section, name, run in list_runs(given, sets):
        about = {"section": section, "set": name, "epochs": run.epochs, "labels": run.variant, "recipe": run.recipe}
        about |= {"seed": run.seed}
        if _key(about) not in done:
            missing.append((about, run))
    running: dict[Future[Any], dict[str, Any]] = {}
    with ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while (missing and time.monotonic() < deadline) or running:
            while missing and len(running) < given.processes and time.monotonic() < deadline:
                about, run = missing.pop(0)
                running[pool.submit(train, run)] = about
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                result = running.pop(future) | {"figures": future.result()}
                with given.output.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                means = {name: round(each["macro_f1"], 3) for name, each in result["figures"].items()}
                print(*_key(result), means, flush=True)
    if missing:
        print(f"--budget-s {given.budget_s:g} is over: {len(missing)} runs are missing; the same command does them")


def _key(result: dict[str, Any]) -> tuple[Any, ...]:
    # Results from before labels were damaged do not name their labels.
    labelled = {"labels": "as given"} | result
    return tuple(labelled[name] for name in ("section", "set", "epochs", "labels", "recipe", "seed"))


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(path: Path) -> None:
    """The table: macro F1, mean and spread (largest less smallest) over seeds, and mean accuracy; see `Figures`."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for result in read_results(path):
        groups[_key(result)[:5]].append(result["figures"])
    print("\n| section | set | epochs | labels | recipe | seeds | macro F1, mean ± spread (accuracy) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (*about, recipe), figures in sorted(groups.items(), key=lambda item: item[0]):
        cells = []
        for attribute in figures[0]:
            values = [each[attribute]["macro_f1"] for each in figures]
            accuracy = statistics.mean(each[attribute]["accuracy"] for each in figures)
            spread = max(values) - min(values)
            cell = f"{attribute} {statistics.mean(values):.3f} ± {spread:.3f} ({accuracy:.3f})"
            fitted = [each[attribute]["fitted_f1"] for each in figures if "fitted_f1" in each[attribute]]
            cells.append(f"{cell}, fitted {statistics.mean(fitted):.3f}" if fitted else cell)
        print(f"| {' | '.join(map(str, about))} | {recipe} | {len(figures)} | {'; '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fairface", type=Path, help="folder with train/, val/ and their label CSVs; none: drawn alone"
    )
    parser.add_argument("--output", type=Path, required=True, help="results, one JSON line a run")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "bench-recipes")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=["scratch"])
    parser.add_argument("--sets", nargs="+", choices=("fairface", "drawn"), default=["fairface", "drawn"])
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=64, help="side that the network sees, px")
    parser.add_argument("--stored", type=int, default=80, help="side of the images in memory, px")
    parser.add_argument("--num-train", type=int, help="training images of each set, the first ones; all by default")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--also", nargs="*", default=[], help="more settings of ours: 'optim.lr=0.003 feed.batch_size=32'"
    )
    parser.add_argument("--plain", nargs="*", choices=PLAIN, default=PLAIN, help="plain recipes; none: ours alone")
    parser.add_argument("--rates", nargs="+", default=["own", "3e-3"], help="rates of the systems' recipes")
    parser.add_argument("--teachers", nargs="+", choices=tuple(TEACHERS), default=list(TEACHERS), help="for distil")
    parser.add_argument("--students", nargs="+", choices=tuple(STUDENTS), default=list(STUDENTS), help="for distil")
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
    if "distil" in given.sections:
        make_teachers(given)
    run_all(given, sets)
    show(given.output)


if __name__ == "__main__":
    main()
