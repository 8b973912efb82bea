"""Ranges of the config; every refusal names the flag."""

import re

import pytest

from faceattr.config import (
    DecodeConfig,
    LabelConfig,
    PackConfig,
    RayConfig,
    SelectConfig,
    SplitsConfig,
    StorageConfig,
    WorkersConfig,
)
from faceattr.errors import ConfigError

LABEL = {"images": "in", "output": "out"}


def label(**values):
    return LabelConfig(**(LABEL | values))


def pack(**values):
    return PackConfig(**({"labels": ("run",), "output": "out"} | values))


@pytest.mark.parametrize(
    ("build", "values", "flag"),
    [
        (label, {"images": ""}, "--images"),
        (label, {"output": ""}, "--output"),
        (label, {"limit": 0}, "--limit"),
        (label, {"max_error_share": -0.01}, "--max-error-share"),
        (label, {"max_error_share": 1.01}, "--max-error-share"),
        (label, {"max_error_share": float("nan")}, "--max-error-share"),
        (label, {"allow_sensitive": ""}, "--allow-sensitive"),
        (label, {"allow_sensitive": "  because  "}, "--allow-sensitive"),
        (pack, {"output": ""}, "--output"),
        (pack, {"labels": ()}, "--labels"),
        (pack, {"labels": ("a", "a")}, "--labels"),
        (pack, {"short_side_px": 7}, "--short-side-px"),
        (pack, {"jpeg_quality": 0}, "--jpeg-quality"),
        (pack, {"jpeg_quality": 101}, "--jpeg-quality"),
        (pack, {"limit": 0}, "--limit"),
        (pack, {"max_error_share": 1.5}, "--max-error-share"),
        (pack, {"shard_mb": 0}, "--shard-mb"),
        (SplitsConfig, {"val": -0.1}, "--splits.val"),
        (SplitsConfig, {"test": float("nan")}, "--splits.test"),
        (SplitsConfig, {"train": 0.0, "val": 0.0, "test": 0.0}, "--splits.train"),
        (SplitsConfig, {"rename": ("val=test",), "official": "ignore"}, "--splits.rename"),
        (SelectConfig, {"negatives": -1, "any_of": ("hat",)}, "--select.negatives"),
        (SelectConfig, {"negatives": 5}, "--select.negatives"),
        (StorageConfig, {"deadline_s": 0.0}, "--storage.deadline-s"),
        (StorageConfig, {"deadline_s": float("nan")}, "--storage.deadline-s"),
        (DecodeConfig, {"max_bytes": 0}, "--decode.max-bytes"),
        (DecodeConfig, {"max_pixels": 0}, "--decode.max-pixels"),
        (DecodeConfig, {"max_pixels": 89_478_486}, "--decode.max-pixels"),
        (DecodeConfig, {"timeout_s": 0.0}, "--decode.timeout-s"),
        (WorkersConfig, {"gpus_per_actor": -0.5}, "--workers.gpus-per-actor"),
        (WorkersConfig, {"gpus_per_actor": 1.5}, "--workers.gpus-per-actor"),
        (WorkersConfig, {"min_actors": 0}, "--workers.min-actors"),
        (WorkersConfig, {"max_actors": 0}, "--workers.max-actors"),
        (WorkersConfig, {"min_actors": 3, "max_actors": 2}, "--workers.min-actors"),
        (WorkersConfig, {"threads_per_actor": 0}, "--workers.threads-per-actor"),
        (WorkersConfig, {"batch_size": 0}, "--workers.batch-size"),
        (WorkersConfig, {"block_rows": -1}, "--workers.block-rows"),
        (RayConfig, {"num_cpus": 0}, "--ray.num-cpus"),
        (RayConfig, {"object_store_mb": -5}, "--ray.object-store-mb"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_out_of_range_is_refused_by_its_flag(build, values, flag):
    value = next(iter(values.values()))
    with pytest.raises(ConfigError, match=f"^{flag}: expected .*, found {re.escape(repr(value))}$"):
        build(**values)


@pytest.mark.parametrize(
    ("build", "values"),
    [
        (label, {"limit": 1}),
        (label, {"max_error_share": 0.0}),
        (label, {"max_error_share": 1.0}),
        (label, {"allow_sensitive": "an audit of bias"}),
        (WorkersConfig, {"gpus_per_actor": 0.0}),
        (WorkersConfig, {"gpus_per_actor": 0.25}),
        (WorkersConfig, {"gpus_per_actor": 2.0}),
        (WorkersConfig, {"min_actors": 2, "max_actors": 2}),
        (StorageConfig, {"endpoint_url": "http://127.0.0.1:9000"}),
    ],
)
def test_the_edges_are_allowed(build, values):
    config = build(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_credentials_in_the_endpoint_are_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"^--storage\.endpoint-url: expected one without") as error:
        StorageConfig(endpoint_url="https://AKIA:topsecret@store.example")
    assert "topsecret" not in str(error.value)
    assert "AKIA" not in str(error.value)


@pytest.mark.parametrize(
    ("build", "values", "message"),
    [
        (pack, {"source": "fairface"}, "--root: expected the folder of --source fairface, found None"),
        (pack, {"root": "x"}, "--source: expected the name of --root's layout, found None"),
        (SplitsConfig, {"rename": ("val=test", "val")}, "--splits.rename: expected entries such as .*, found 'val'"),
        (SplitsConfig, {"rename": ("val=dev",)}, "--splits.rename: expected entries such as .*, found 'val=dev'"),
    ],
)
def test_values_that_do_not_go_together(build, values, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        build(**values)
