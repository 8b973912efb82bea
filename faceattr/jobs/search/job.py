"""A checked search command, new or resumed: its config, shared settings, space and network."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from typing import Any

import pyarrow as pa

import faceattr
from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.config.fit import list_deciding
from faceattr.config.search import SearchConfig
from faceattr.config.train import KEPT_THRESHOLDS, TrainConfig
from faceattr.data.lineage import describe_data
from faceattr.data.packed.reader import PackedData, open_packed
from faceattr.data.runs.begin import check_fingerprint, open_run
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RunRecord, read_record
from faceattr.data.stores.open import open_output
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.code_version import code_version
from faceattr.jobs.trackers.tracked import check_loggers
from faceattr.models.backbones.names import built_name
from faceattr.models.backbones.published import check_published_weights
from faceattr.search.backbone_cuts import BackboneCuts, measure_cuts
from faceattr.search.cache_choice import CachePlan, plan_caches, possible_depths
from faceattr.search.comparison.halving import choose_grace
from faceattr.search.default_space import build_default_space
from faceattr.search.judge import Judge
from faceattr.search.records import read_begun
from faceattr.search.shared_config import build_base, config_from_json, read_text, to_json
from faceattr.search.space import Space, check_space, parse_space
from faceattr.search.spaces import read_builtin_space
from faceattr.training.assembly import build_untrained, choose_attributes, renamed_backbone
from faceattr.training.label_needs import best_figures, check_label_needs
from faceattr.training.recipe import resolve_recipe
from faceattr.yaml_files import load_yaml

logger = logging.getLogger(__name__)
SEARCH_KIND = "search"
SET_ATTRIBUTES = "--set 'attributes=[...]' with"
"""How a search is told to leave out an attribute."""
_DEFAULT_SAMPLES = 32
_PACKAGES = ("ray", "optuna", "torch", "torchvision", "timm", "transformers", "pyarrow", "numpy", "scikit-learn")
# What --resume may change: how long, where and with which resources a search runs, not what it finds.
_RESUMABLE = ("num_samples", "resume", "trials", "storage", "ray", "dry_run")
_DECIDING = ("algorithm", "seed", "objective", "stop", "features", "repeat")
_OUTSIDE = "the shared settings are outside the space: no trial has exactly these"
_NO_PLAN = Plan(num_rows=0, num_bytes=0, shard_size=1, parts=())


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """A checked search command: everything that can be verified without a cluster has been verified.

    Attributes:
        config: the config as given; for a resumed search, its first config with the changes.
        base: settings that the trials share, including the space's fixed values, with every open setting chosen.
        recipe: what was chosen and why: rate, schedule, augmentation.
        space: the settings that trials differ in.
        facts: facts about the shared network.
        data: the packed runs.
        attributes: the attributes to learn.
        storage: how stores are accessed.
        output: folder of the search.
    """

    config: SearchConfig
    base: TrainConfig
    recipe: tuple[str, ...]
    space: Space
    facts: BackboneCuts
    data: PackedData
    attributes: AttributeSet
    storage: StorageConfig
    output: Store

    @property
    def num_samples(self) -> int:
        """Number of trials of the search."""
        return self.config.num_samples or _DEFAULT_SAMPLES

    @property
    def first_trial(self) -> dict[str, Any] | None:
        """The shared settings as the settings of a trial; None if the space excludes them."""
        return self.space.find_values(self.base)

    @property
    def main(self) -> str | None:
        """The main attribute, if there is one."""
        return self.config.objective.main or self.base.loss.main

    @property
    def uses_gpus(self) -> bool:
        """Whether networks run on GPUs: in the trials' processes, or in their workers'."""
        workers = self.base.workers
        return workers.use_gpu if workers.num_workers > 1 else self.config.trials.gpus > 0

    @property
    def judge(self) -> Judge:
        """The judge of the trials."""
        return Judge(self.attributes, self.config.objective, main=self.main, seed=self.config.seed)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines what is found."""
        base, config = list_deciding(self.base), list_deciding(self.config)
        for name in ("output", "storage", "ray", "workers", "dry_run"):
            del base[name]
        return {
            "data": self.data.fingerprint,
            "base": base,
            "space": self.space.to_json(),
            **{name: config[name] for name in _DECIDING if name in config},
            **renamed_backbone(self.base.model),
        }

    @property
    def caches(self) -> CachePlan:
        """The activations that trials share."""
        return plan_caches(
            self.space,
            self.base,
            self.facts,
            self.config.features,
            mode=self.config.cache,
            num_rows=self.data.num_rows("train") + self.data.num_rows("val"),
        )


def prepare_search_job(config: SearchConfig) -> SearchJob:
    """Checks a command as far as possible without reading labels.

    Raises:
        ConfigError, ModelError: the command cannot run as given.
        StorageError: a store cannot be accessed.
    """
    storage = config.storage
    check_loggers(config.loggers)
    output = open_output(config.resume or config.output, storage)
    record = read_record(output)
    content: Mapping[str, Any] | None
    if config.resume is not None:
        config, base, content = _read_begun(config, record, output)
    else:
        base = build_base(config, storage)
        content = None if config.space is None else _load_space(config.space, storage)
    data = open_packed(config.data, storage)
    attributes = choose_attributes(data.attributes, base.attributes)
    wanted = config.objective.thresholds
    if base.thresholds not in (KEPT_THRESHOLDS, wanted):
        raise ConfigError(
            f"thresholds.criterion {base.thresholds.criterion} of the trained config: a search chooses thresholds by "
            f"--objective.criterion, which is {wanted.criterion}; set both to the same value, recall and "
            "costs included, or leave the former out"
        )
    main = config.objective.main
    if main is not None and main not in attributes.names:
        raise ConfigError(f"--objective.main {main!r}: none of the learnt attributes {list(attributes.names)}")
    parsed = None if content is None else parse_space(content, f"--space {config.space}" if config.space else "space")
    if parsed is not None:
        base = check_space(parsed, base, attributes.names)
    begun = record.notes["base"] if record is not None and record.kind == SEARCH_KIND else None
    recipe = resolve_recipe(base, num_images=data.num_rows("train"), begun=begun)
    base = recipe.config
    model = build_untrained(base, attributes, storage=storage)
    backbone = model.backbone
    space = parsed or build_default_space(
        base, attributes.names, num_blocks=backbone.num_blocks, can_split=backbone.can_split
    )
    base = check_space(space, base, attributes.names)
    job = SearchJob(
        config=_settle_grace(config, record, base, space),
        base=base,
        recipe=recipe.lines,
        space=space,
        facts=measure_cuts(model, possible_depths(space, base)),
        data=data,
        attributes=attributes,
        storage=storage,
        output=output,
    )
    _check_job(job)
    if record is not None:
        check_fingerprint(output, record, kind=SEARCH_KIND, fingerprint=job.fingerprint)
    return job


def _settle_grace(config: SearchConfig, record: RunRecord | None, base: TrainConfig, space: Space) -> SearchConfig:
    """Returns the config with a number of grace epochs: that of the search in the folder, if there is one."""
    if config.stop.grace_epochs != "auto":
        return config
    begun = record.fingerprint["stop"]["grace_epochs"] if record is not None and record.kind == SEARCH_KIND else None
    grace = choose_grace(base, space) if begun is None else int(begun)
    return replace(config, stop=replace(config.stop, grace_epochs=grace))


def _check_job(job: SearchJob) -> None:
    check_label_needs(job.base.select, job.attributes, job.data, unlearnt=SET_ATTRIBUTES)
    counts = {name: job.data.count_labels("val", name) for name in job.attributes.names}
    job.judge.check_labels(counts, best_figures(job.attributes, counts))
    num_rows, size = job.data.num_rows("train"), job.base.feed.settled_batch_size
    if num_rows < size:
        raise ConfigError(f"feed.settled_batch_size {size}: the training split has {num_rows:,} images; choose fewer")
    if job.base.workers.num_workers > 1 and not job.config.ray.dashboard:
        # Ray Train releases the placement groups of stopped trials through the dashboard's state API.
        raise ConfigError("--ray.no-dashboard: trials with several workers need the dashboard; leave the flag out")


def check_weights(job: SearchJob) -> None:
    """Refuses, before a cluster is used, backbones that do not exist or whose published weights are not available.

    Raises:
        ConfigError, ModelError: see `check_published_weights`.
    """
    model = job.base.model
    if model.checkpoint is not None:
        return
    for name in job.space.possible("model.backbone") or [model.backbone]:
        built_name(name)
        if model.pretrained:
            check_published_weights(name)


def _load_space(name_or_address: str, storage: StorageConfig) -> Mapping[str, Any]:
    text = read_builtin_space(name_or_address)
    if text is None:
        text = read_text(name_or_address, storage, "--space")
    return load_yaml(text, f"--space {name_or_address}")


def _read_begun(
    config: SearchConfig, record: RunRecord | None, output: Store
) -> tuple[SearchConfig, TrainConfig, Mapping[str, Any]]:
    """Reads config, shared settings and space of the search in a folder, from JSON alone."""
    if record is None or record.kind != SEARCH_KIND:
        raise ConfigError(f"--resume {output.uri}: there is no search; begin one with --data and --output")
    plain = SearchConfig(data=("unused",), output="unused")
    changed = [
        each.name
        for each in fields(SearchConfig)
        if each.name not in _RESUMABLE and getattr(config, each.name) != getattr(SearchConfig(resume="x"), each.name)
    ]
    if changed:
        raise ConfigError(
            f"--resume takes its settings from the search: leave out --{changed[0].replace('_', '-')}, or begin "
            "another search with --output"
        )
    begun = config_from_json(plain, record.config)
    num_begun = len(read_begun(output))
    if config.num_samples is not None and config.num_samples < num_begun:
        raise ConfigError(f"--num-samples {config.num_samples}: it has begun {num_begun} trials; set at least that")
    begun = replace(
        begun,
        **{name: getattr(config, name) for name in ("storage", "ray", "dry_run")},
        num_samples=config.num_samples or begun.num_samples,
        trials=config.trials if config.trials != plain.trials else begun.trials,
    )
    base = config_from_json(TrainConfig(data=begun.data, output="unused"), record.notes["base"])
    return begun, replace(base, storage=config.storage, ray=config.ray), record.notes["space"]


def begin_search_run(job: SearchJob) -> RunRecord:
    """Begins or reopens the run in the output folder."""
    return open_run(
        job.output,
        kind=SEARCH_KIND,
        fingerprint=job.fingerprint,
        config=to_json(job.config),
        versions={name: metadata.version(name) for name in _PACKAGES}
        | {"faceattr": faceattr.__version__, "code": code_version()},
        notes={
            "base": to_json(job.base),
            "space": job.space.to_json(),
            "attributes": [asdict(each) for each in job.attributes.attributes],
        },
        write_plan=lambda: (_NO_PLAN, describe_data(job.data), pa.schema([])),
    )


def describe_search(job: SearchJob) -> str:
    """Returns the text that the user reads before the search starts."""
    rows = {split: job.data.num_rows(split) for split in job.data.splits}
    judged = (
        f"{job.config.objective.criterion} of {job.main}"
        if job.main
        else f"mean over {', '.join(job.attributes.names)}"
    )
    return "\n".join(
        [
            f"search of {job.num_samples} trials, {job.config.algorithm}, judged by {judged}",
            f"images {', '.join(f'{split} {count:,}' for split, count in rows.items())}",
            f"backbone {job.base.model.backbone}, {job.facts.num_blocks} blocks, {job.base.optim.epochs} epochs",
            *job.recipe,
            _describe_stop(job),
            "the first trial has these settings" if job.first_trial is not None else _OUTSIDE,
            "space",
            job.space.describe(),
            *job.caches.notes,
        ]
    )


def _describe_stop(job: SearchJob) -> str:
    stop = job.config.stop
    if not stop.enabled or stop.grace_epochs == "auto" or stop.grace_epochs >= job.base.optim.epochs:
        return "no trial is stopped early"
    return f"weak trials are stopped from epoch {stop.grace_epochs} on, by {stop.rule}; stacks of heads are not"
