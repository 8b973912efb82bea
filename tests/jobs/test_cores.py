"""How cores are shared out between a network and its decoders."""

import copy
import dataclasses

import pytest
import torch

from faceattr.attributes import AttributeSet
from faceattr.config.train import FeedConfig, FreezeConfig, ModelConfig, TrainConfig, TrainWorkersConfig
from faceattr.data.packed.reader import open_packed
from faceattr.jobs.cluster.machines.cores import count_decoders, share_cores, split_cores, time_decoding, time_network
from faceattr.jobs.train.feed import FeedPlan
from faceattr.jobs.train.survey import survey_data
from faceattr.training.assembly import build_model
from faceattr.training.inputs import TrainingInputs
from faceattr.training.recipe import resolve_recipe
from tests.jobs.train_data import HAT, numbered_row
from tests.packed_runs import write_packed_run

ATTRIBUTES = AttributeSet(attributes=(HAT,))
COUNTS = {"hat": torch.tensor([5.0, 5.0], dtype=torch.float64)}


def make_config(size_px=32, **groups):
    model = ModelConfig(backbone="test_resnet", pretrained=False, image_size=size_px)
    given = TrainConfig(data=("packed",), output="model", model=model, **groups)
    return resolve_recipe(given, num_images=1_000).config


def make_model(config):
    return build_model(config, ATTRIBUTES, counts=COUNTS)


@pytest.mark.parametrize(
    ("cores", "network_s", "decode_s", "threads"),
    [
        (2, 1e-3, 1e-3, 1),  # a small network: one core for each
        (2, 1e-4, 1e-3, 1),  # never none
        (2, 0.1, 1e-3, 2),  # a large one: decoding needs 1 % of the cores
        (16, 3e-3, 1e-3, 12),
        (16, 1e-3, 3e-3, 4),
        (1, 1.0, 1e-3, 1),
    ],
)
def test_the_network_has_its_part_of_the_work_in_cores(cores, network_s, decode_s, threads):
    assert split_cores(cores, network_s, decode_s) == threads


def test_timing_a_network_leaves_it_the_random_numbers_and_the_threads_as_they_were():
    config = make_config()
    model = make_model(config).train()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    threads = torch.get_num_threads()
    assert time_network(model, config) > 0
    assert model.training
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_on_larger_images_takes_longer():
    small, large = make_config(32), make_config(256)
    assert time_network(make_model(large), large) > 5 * time_network(make_model(small), small)


def test_nothing_goes_back_through_a_backbone_that_no_stage_trains():
    trained, frozen = make_config(256), make_config(256, freeze=FreezeConfig(depth="all"))
    model = make_model(trained)
    assert time_network(model, trained) > 1.5 * time_network(model, frozen)


@pytest.fixture(scope="module")
def plan(ray_local, tmp_path_factory):
    rows = [numbered_row(number) for number in range(40)]
    folder = tmp_path_factory.mktemp("cores") / "packed"
    data = open_packed([write_packed_run(folder, ATTRIBUTES, {"train": rows, "val": rows[:8]})])
    surveys = survey_data(data, ATTRIBUTES, (), None, data.storage)
    config = make_config()
    return FeedPlan(
        inputs=TrainingInputs(data=data, attributes=ATTRIBUTES, surveys=surveys, storage=data.storage),
        config=config,
        preprocessing=make_model(config).backbone.preprocessing,
    )


@pytest.mark.ray
def test_decoding_is_timed_on_images_of_the_training_split(plan):
    assert 0 < time_decoding(plan) < 1


@pytest.mark.ray
def test_a_small_network_leaves_cores_to_its_decoders(plan):
    model = make_model(plan.config)
    share = share_cores(model, plan, num_workers=1, most_threads=2, worker_cpus=0.5, threads=None)
    assert share.threads == 1
    assert share.decoders == count_decoders(plan.config, 1, 0.5)


@pytest.mark.ray
def test_what_is_given_wins(plan):
    config = make_config(feed=FeedConfig(max_decoders=3), workers=TrainWorkersConfig(threads=5))
    plan = dataclasses.replace(plan, config=config)
    share = share_cores(make_model(config), plan, num_workers=1, most_threads=2, worker_cpus=0.5, threads=5)
    assert (share.threads, share.decoders) == (5, 3)


@pytest.mark.ray
def test_trials_that_run_at_a_time_share_the_decoders(plan):
    config = make_config()
    alone, together = (count_decoders(config, num, 0.1) for num in (1, 4))
    assert 1 <= together < alone
