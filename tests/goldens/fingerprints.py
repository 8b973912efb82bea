"""Fingerprints and run.json of every job, begun with default settings on the samples; no image is read."""

import json
from typing import Any

from faceattr.config import EvalConfig, LabelConfig, PackConfig, PredictConfig
from faceattr.config.search import SearchConfig
from faceattr.config.train import FeedConfig, TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.jobs.evaluate.run import prepare_eval_job, settle_precision
from faceattr.jobs.images.label import prepare_label_job
from faceattr.jobs.images.predict import prepare_predict_job
from faceattr.jobs.images.run import begin_run
from faceattr.jobs.pack.job import prepare_pack_job
from faceattr.jobs.pack.run import begin_pack_run
from faceattr.jobs.search.computation import settle_search
from faceattr.jobs.search.job import begin_search_run, prepare_search_job
from faceattr.jobs.train.computation import settle_training
from faceattr.jobs.train.run import begin_train_run, prepare_train_job
from tests.goldens.bucket import GOLDENS
from tests.goldens.describe import describe_file, describe_json

_BEGUN = f"{GOLDENS}/begun"


def collect_fingerprints() -> dict[str, Any]:
    """Job -> fingerprint of an evaluation, run.json of all others. Reads samples of the bucket, and Ray runs."""
    return {
        "label": _label(),
        "pack": _pack(),
        "train": _train(),
        "search": _search(),
        "predict": _predict(),
        "evaluate": _evaluate(),
    }


def _label() -> Any:
    output = _fresh("label")
    begin_run(prepare_label_job(LabelConfig(images=f"{GOLDENS}/faces/", output=output.uri, model="tiny")))
    return _read(output)


def _pack() -> Any:
    output = _fresh("pack")
    begin_pack_run(prepare_pack_job(PackConfig(labels=(f"{GOLDENS}/labels",), output=output.uri)))
    return _read(output)


def _train() -> Any:
    output = _fresh("train")
    config = TrainConfig(data=(f"{GOLDENS}/packed",), output=output.uri, feed=FeedConfig(batch_size=4))
    begin_train_run(settle_training(prepare_train_job(config)))
    return _read(output)


def _search() -> Any:
    output = _fresh("search")
    config = SearchConfig(data=(f"{GOLDENS}/packed",), output=output.uri, set=("feed.batch_size=4",))
    begin_search_run(settle_search(prepare_search_job(config)))
    return _read(output)


def _predict() -> Any:
    output = _fresh("predict")
    config = PredictConfig(model=f"{GOLDENS}/model", images=f"{GOLDENS}/faces/", output=output.uri)
    with prepare_predict_job(config).settled() as job:
        begin_run(job)
    return _read(output)


def _evaluate() -> Any:
    output = _fresh("evaluate")
    config = EvalConfig(model=f"{GOLDENS}/model", data=(f"{GOLDENS}/packed",), output=output.uri)
    return describe_json(
        json.loads(json.dumps({"fingerprint": settle_precision(prepare_eval_job(config)).fingerprint}))
    )


def _fresh(name: str) -> Store:
    store = open_store(f"{_BEGUN}/{name}")
    for key in [entry.key for entry in store.list()]:
        store.delete(key)
    return store


def _read(store: Store) -> Any:
    return describe_file("run.json", store.get("run.json"))
