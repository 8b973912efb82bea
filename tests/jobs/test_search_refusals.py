"""What a search is refused for is said before Ray starts, and leaves nothing behind."""

import runpy
from pathlib import Path

import huggingface_hub.constants
import pytest
import ray

from tests.jobs.train_data import ATTRIBUTES, SIZE, numbered_row
from tests.packed_runs import write_packed_run

search = runpy.run_path(str(Path(__file__).parents[2] / "tune" / "search.py"))["main"]
NETWORK = ["model.backbone=test_vit", f"model.image_size={SIZE}", "model.args={depth: '2'}", "feed.batch_size=16"]
RANDOM = "model.pretrained=false"


def refuse_ray(*args, **kwargs):
    pytest.fail("Ray was started")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Numbered images: a single hat and no age in validation."""
    age = {"age_low": 5.0, "age_high": 6.0}
    rows = {
        "train": [numbered_row(n, tone=n % 3, **age) for n in range(40)],
        "val": [{**numbered_row(n, tone=n % 3), "hat": int(n == 0)} for n in range(12)],
    }
    return write_packed_run(tmp_path_factory.mktemp("packed"), ATTRIBUTES, rows)


@pytest.mark.parametrize(
    ("settings", "flags", "problem"),
    [
        ([], [], "backbone 'test_vit': its pretrained weights"),
        ([RANDOM], ["--objective.main", "hat"], "validation has too few labels of hat to judge a trial by"),
        ([RANDOM], ["--objective.main", "age"], "validation has too few labels of age to judge a trial by"),
        ([RANDOM, "attributes=[hat]"], [], "validation has too few labels of any attribute to judge a trial by"),
        ([RANDOM, "select.metric=age/mae"], [], "'age/mae': no validation image has a label of 'age' that defines it"),
        ([RANDOM, "select.metric=tone/auc"], [], "'tone/auc' is no figure of validation"),
        ([RANDOM, "model.backbone=test_vitt"], [], "has no such model; near names are"),
        ([RANDOM, "freeze.depth=9"], [], "freeze depth 9: test_vit has 3 blocks"),
        ([RANDOM, "loss.weights={smile: 2}"], [], "['smile'] are none of the model's attributes"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_config_and_counts_show_is_refused_before_ray_starts(
    packed, tmp_path, capsys, monkeypatch, settings, flags, problem, dry
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(ray, "init", refuse_ray)
    named = {each.partition("=")[0] for each in settings}
    shared = [each for each in NETWORK if each.partition("=")[0] not in named]
    words = ["--data", str(packed), "--output", str(tmp_path / "out"), "--set", *shared, *settings, *flags, *dry]
    assert search(words) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_backbones_of_the_space_are_looked_for_too(packed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(ray, "init", refuse_ray)
    (tmp_path / "space.yaml").write_text("model.backbone: {choice: [test_vit, resnet19]}\n")
    words = ["--data", str(packed), "--output", str(tmp_path / "out"), "--space", str(tmp_path / "space.yaml")]
    assert search([*words, "--set", *NETWORK]) == 2
    assert "its pretrained weights" in capsys.readouterr().err
    assert search([*words, "--set", *NETWORK, RANDOM]) == 2
    assert "'resnet19': timm" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
