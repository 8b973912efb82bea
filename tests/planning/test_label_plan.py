"""The planner's arithmetic, against numbers worked out by hand from a table of round figures."""

import dataclasses
import math
import re
import shlex
from pathlib import Path

import pytest

from faceattr.cli import main as faceattr
from faceattr.errors import ConfigError
from faceattr.planning.describe import describe_estimate, describe_rates, format_hours, list_warnings
from faceattr.planning.label_plan import CostEstimate, compute_core_s, compute_gpu_rate, estimate_label
from faceattr.planning.rates import KINDS, Gpu, Rate, Rates, Resource, find_bottleneck, load_rates

# Round figures, so that the results can be worked out in one's head.
ROUND = {
    "gpu_efficiency": 0.5,
    "actor_host_s": 0.00004,
    "decode_isolation": 1.1,
    "decode_on_gpu_machine": 2.0,
    "read_cpu_s": 0.001,
    "read_packed_cpu_s": 0.0001,
    "read_latency_s": 0.128,
    "move_pixels_s": 0.0005,
    "schedule_blocks_per_s": 100.0,
    "commit_rows_per_s": 100_000.0,
    "verify_rows_per_s": 1_000_000.0,
    "plan_rows_per_s": 1_000_000.0,
    "list_page_s": 0.1,
    "list_pages_at_once": 2,
    "start_s": 100.0,
    "label_row_bytes": 70.0,
    "label_attribute_bytes": 10.0,
    "plan_row_bytes": 50.0,
    "jpeg_bytes_per_pixel": 0.25,
    "get_per_prefix_per_s": 5_000.0,
}
PRICES = {"core_hour": 0.1, "get": 4e-7, "put": 5e-6, "gb_month": 0.02}


def figures(values):
    return {name: Rate(value=value, unit="", kind="measured", source="") for name, value in values.items()}


@pytest.fixture
def rates() -> Rates:
    return Rates(
        figures=figures(ROUND),
        decode_images_per_s={10_000: 2000, 100_000: 1000},
        gpus={
            "big": Gpu(
                tflops=1_000, price=3.6, price_source="a list", images_per_s={1: 6_250, 11: 2_500}, rate_source="a run"
            ),
            "unmeasured": Gpu(tflops=2_000, price=3.6, price_source="a list"),
            "free": Gpu(tflops=1, price=None, price_source=None),
        },
        prices=figures(PRICES),
    )


def plan(**changes) -> CostEstimate:
    given = {"num_images": 10_000_000, "pixels": 10_000, "image_bytes": 2_500, "gpu": "big", "num_gpus": 1}
    given |= {"model_px": 384, "gflop_image": 90.0, "gflop_question": 10.0, "is_measured": True}
    return CostEstimate(**{**given, "num_questions": 1, "num_prefixes": 10, **changes})


def test_the_slowest_resource_sets_the_rate_and_the_others_wait():
    found = find_bottleneck(
        {
            "cores": Resource(units=4, demand_s={"read": 0.001, "decode": 0.003}),  # 4 / 0.004 = 1,000
            "gpus": Resource(units=2, demand_s={"model": 0.004}),  # 500
            "none": Resource(units=1, demand_s={}),
        }
    )
    assert (found.rate, found.name) == (500, "gpus")
    assert found.use == {"cores": 0.5, "gpus": 1.0, "none": 0.0}


@pytest.mark.parametrize(
    ("pixels", "seconds"),
    [(10_000, 0.0005), (100_000, 0.001), (55_000, 0.00075), (190_000, 0.0015), (5_000, 0.0005)],
)
def test_decoding_is_linear_between_and_beyond_the_sizes_measured(rates, pixels, seconds):
    assert rates.decode_s(pixels) == pytest.approx(seconds)


def test_the_rate_of_a_gpu(rates):
    assert compute_gpu_rate(plan(), rates) == pytest.approx(5_000)  # 0.16 ms of its scorer, 0.04 of its actor
    assert compute_gpu_rate(plan(num_questions=11), rates) == pytest.approx(1 / 0.00044)
    assert compute_gpu_rate(plan(num_questions=6), rates) == pytest.approx(1 / 0.00032)  # between 0.16 and 0.4 ms
    # Half of 2,000 TFLOP/s, at 100 and 200 GFLOP an image: 0.1 and 0.2 ms of the scorer.
    assert compute_gpu_rate(plan(gpu="unmeasured"), rates) == pytest.approx(1 / 0.00014)
    assert compute_gpu_rate(plan(gpu="unmeasured", num_questions=11), rates) == pytest.approx(1 / 0.00024)
    assert compute_gpu_rate(plan(gpu_rate=77.0), rates) == 77.0
    with pytest.raises(ConfigError, match=r"--gpu: expected one of big, unmeasured, free, found 'tpu'"):
        compute_gpu_rate(plan(gpu="tpu"), rates)


def test_core_seconds(rates):
    # A reading task claims a quarter of a core for 16 requests at a time: 0.25 * 0.128 / 16 = 0.002, more than 0.001.
    assert compute_core_s(plan(), rates) == pytest.approx(
        {"read": 0.002, "decode and resize": 0.0011, "move pixels": 0.0005}
    )
    assert compute_core_s(plan(input_kind="packed"), rates)["read"] == pytest.approx(0.0001)


def test_a_run_that_the_gpu_limits(rates):
    estimate = estimate_label(plan(), rates)
    # GPU 5,000; store 10 * 5,000; driver 1 / (1 / 25,600 + 1 / 100,000) = 20,382; cores 5,000 * 0.0036 * 1.1 = 19.8.
    assert (estimate.bottleneck.name, estimate.num_cores) == ("GPUs", 20)
    assert estimate.bottleneck.rate == pytest.approx(5_000)
    assert estimate.bottleneck.use == pytest.approx(
        {"GPUs": 1.0, "driver": 5_000 * (1 / 25_600 + 1 / 100_000), "object store": 0.1, "CPU cores": 0.9}
    )
    # 10,000 pages of 0.1 s, two at once, and 10 s of numbering; 10 M / 5,000.
    assert estimate.phases_s == pytest.approx({"list and plan": 510, "start": 100, "label": 2_000, "verify": 10})
    assert estimate.total_s == pytest.approx(2_620)
    # 10 M / 8,192 rows a shard (4,883 of 2,048 would be too many): 1,221 shards; 153 parts of 65,536 rows.
    assert estimate.num_shards == 1_221
    assert estimate.gets == 10_000_000 + 1_221 + 2 * 153
    assert estimate.puts == 10_000 + 1_221 + 153
    assert estimate.output_bytes == pytest.approx(10_000_000 * (70 + 3 * 10 + 50))
    assert estimate.read_bytes == 25_000_000_000
    assert estimate.pixel_bytes_per_s == pytest.approx(5_000 * 384 * 384 * 3)
    hours = 2_100 / 3_600
    assert estimate.cost == pytest.approx(
        {
            "GPUs": 3.6 * hours,
            "CPU cores": 0.1 * 20 * hours,
            "requests": estimate.gets * 4e-7 + estimate.puts * 5e-6,
            "storage of the table, a month": 1.5 * 0.02,
        }
    )


@pytest.mark.parametrize(
    ("changes", "name", "rate"),
    [
        ({"num_cores": 9}, "CPU cores", 2_500),
        ({"num_prefixes": 1, "num_gpus": 4}, "object store", 5_000),
        ({"num_gpus": 10, "block_rows": 128}, "driver", 1 / (1 / 12_800 + 1 / 100_000)),
    ],
)
def test_each_resource_can_be_the_bottleneck_and_is_warned_of(rates, changes, name, rate):
    given = plan(**changes)
    estimate = estimate_label(given, rates)
    assert estimate.bottleneck.name == name
    assert estimate.bottleneck.rate == pytest.approx(rate)
    assert f"limited by the {name}" in list_warnings(given, estimate, rates)[0]


def test_a_run_that_nothing_holds_back_is_not_warned_of(rates):
    given = plan(input_kind="manifest")
    assert list_warnings(given, estimate_label(given, rates), rates) == []


def test_what_else_is_warned_of(rates):
    huge = plan(num_images=10_000_000_000, gpu_rate=500.0, num_gpus=10)
    found = " ".join(list_warnings(huge, estimate_label(huge, rates), rates))
    assert "75 runs of at most 134,217,728 images" in found  # 10^10 / (2,048 * 65,536) = 74.5
    listed = plan(num_gpus=3)  # 1,010 s of listing before 667 s of work
    assert "give a manifest" in " ".join(list_warnings(listed, estimate_label(listed, rates), rates))
    wide = plan(num_gpus=4)  # 20,000 images/s of 442 KB: 70.8 Gbit/s
    assert "decoded pixels are 71 Gbit/s" in " ".join(list_warnings(wide, estimate_label(wide, rates), rates))
    unpriced = plan(gpu="free", num_gpus=10, input_kind="manifest")
    estimate = estimate_label(unpriced, rates)
    assert "GPUs" not in estimate.cost
    assert "set --gpu-price" in " ".join(list_warnings(unpriced, estimate, rates))
    priced = dataclasses.replace(unpriced, gpu_price=2.0)
    assert estimate_label(priced, rates).cost["GPUs"] > 0
    scaled = plan(gpu="unmeasured", input_kind="manifest")
    assert "the rate of an unmeasured is scaled" in list_warnings(scaled, estimate_label(scaled, rates), rates)[0]
    known = dataclasses.replace(scaled, gpu_rate=5_000.0)
    assert list_warnings(known, estimate_label(known, rates), rates) == []


@pytest.mark.parametrize("name", ["num_images", "num_gpus", "block_rows", "num_prefixes"])
def test_a_plan_of_nothing_is_refused(name):
    with pytest.raises(ConfigError, match="expected more than 0, found 0"):
        plan(**{name: 0})


def test_the_packages_table_says_where_each_figure_comes_from():
    table = load_rates()
    assert set(table.figures) == set(ROUND)
    assert set(table.prices) == set(PRICES)
    for name, figure in [*table.figures.items(), *table.prices.items()]:
        assert figure.kind in KINDS, name
        assert figure.value > 0, name
        assert len(figure.source) > 10, name
        assert figure.unit, name
    for name, gpu in table.gpus.items():
        assert (gpu.price is None) == (gpu.price_source is None), name
        assert gpu.price_source is None or any(str(year) in gpu.price_source for year in range(2024, 2030)), name


def test_the_command(capsys):
    assert (
        faceattr(["plan", "--images", "100_000_000", "--px", "224", "--gpu", "h200", "--gpus", "8", "--sources"]) == 0
    )
    shown = capsys.readouterr().out
    for word in ("rate ", "time ", "GPUs ", "CPU cores ", "network ", "requests ", "written ", "cost ", "WARNING"):
        assert f"\n{word}" in shown
    assert "100,000,000 of 50,176 pixels" in shown
    assert "measured: " in shown
    assert faceattr(["plan", "--images", "1000", "--gpu", "abacus"]) == 2
    assert "--gpu: expected one of" in capsys.readouterr().err


def test_the_text_adds_up(rates):
    given = plan()
    text = describe_estimate(given, estimate_label(given, rates), rates)
    assert "rate        5,000 images/s, limited by: GPUs" in text
    assert "time        43.7 min: list and plan 8.5 min, start 100 s, label 33.3 min, verify 10 s" in text
    assert "0.10 Gbit/s from the store" in text  # 5,000 * 2,500 bytes
    assert math.isclose(float(text.split("cost        USD ")[1].split(",")[0]), 2.1 + 1.17 + 4.06 + 0.03, abs_tol=0.02)
    assert "start_s" in describe_rates(rates)


def test_the_examples_of_the_scale_document_are_what_the_command_says(capsys):
    text = (Path(__file__).parents[2] / "cluster" / "scale.md").read_text()
    examples = re.findall(r"```sh\n(faceattr plan [^\n]+)\n```\n\n```\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for command, expected in examples:
        assert faceattr(shlex.split(command)[1:]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert [line for line in expected.splitlines() if line not in shown] == [], command


@pytest.mark.parametrize(
    ("seconds", "text"), [(119, "119 s"), (120, "2.0 min"), (7_200, "2.0 h"), (172_800, "2.0 days")]
)
def test_durations(seconds, text):
    assert format_hours(seconds) == text
