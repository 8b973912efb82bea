"""A chosen precision is part of a label run's identity; runs that choose none keep the one that they had."""

import dataclasses

import pytest

from faceattr.config import LabelConfig
from faceattr.errors import ConfigError
from faceattr.jobs.images.label import prepare_label_job


def test_only_a_choice_is_in_the_fingerprint(tmp_path):
    config = LabelConfig(images=str(tmp_path), output=str(tmp_path / "run"), model="tiny")
    usual = prepare_label_job(config).fingerprint
    assert "precision" not in usual
    chosen = prepare_label_job(dataclasses.replace(config, precision="fp8")).fingerprint
    assert chosen == {**usual, "precision": "fp8"}
    # Compiling moves scores no more than another batch size does.
    assert prepare_label_job(dataclasses.replace(config, compile="on")).fingerprint == usual


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "fp8"])
def test_the_plain_path_is_exact(precision):
    with pytest.raises(
        ConfigError, match=f"--precision: expected auto or float32 with --engine hf, found '{precision}'"
    ):
        LabelConfig(images="a", output="b", engine="hf", precision=precision)
