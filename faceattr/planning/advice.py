"""What stands in the way of a planned run, and what to do about it."""

from faceattr.data.runs.plan import PART_ROWS, TARGET_SHARDS
from faceattr.planning.label_plan import LabelEstimate, LabelPlan
from faceattr.planning.rates import Rates

# Above this a run of one folder lists, verifies and resumes slowly: its shards cannot grow further.
_MOST_ROWS = TARGET_SHARDS * PART_ROWS
_MUCH_PIXEL_TRAFFIC = 50e9  # bits a second; a fast node has 100 to 400


def list_warnings(plan: LabelPlan, estimate: LabelEstimate, rates: Rates) -> list[str]:
    """One sentence each: what, and the remedy; the bottleneck first."""
    found, warnings = estimate.bottleneck, []
    idle = 1 - found.use["GPUs"]
    if idle > 0.05:
        warnings.append(f"limited by the {found.name}, the GPUs idle {idle:.0%}: {_remedy(plan, estimate)}")
    if plan.input_kind == "prefix" and estimate.phases_s["list and plan"] > 0.1 * estimate.phases_s["label"]:
        warnings.append(
            "listing takes long, since its pages come one after the other: give a manifest (an inventory of the bucket "
            "as Parquet) and plan with --input manifest"
        )
    pixel_bits_per_s = estimate.pixel_bytes_per_s * 8
    if pixel_bits_per_s > _MUCH_PIXEL_TRAFFIC:
        warnings.append(
            f"decoded pixels are {pixel_bits_per_s / 1e9:,.0f} Gbit/s: decode on the GPU nodes' own cores as far as "
            "they reach, and keep the other nodes in the same zone"
        )
    if plan.num_images > _MOST_ROWS:
        warnings.append(
            f"{estimate.num_shards:,} shards in one folder: split the input into {-(-plan.num_images // _MOST_ROWS)} "
            f"runs of at most {_MOST_ROWS:,} images, each with its folder and driver"
        )
    if plan.gpu_rate is None and rates.figures["gpu_efficiency"].kind == "assumed":
        warnings.append(
            "the rate of a GPU is calculated, not measured: run pipelines/label.py --dry-run on one and give --gpu-rate"
        )
    if "GPUs" not in estimate.cost:
        warnings.append(f"no list price of {plan.gpu} is known here: give --gpu-price; the cost lacks the GPUs")
    return warnings


def _remedy(plan: LabelPlan, estimate: LabelEstimate) -> str:
    rate = estimate.bottleneck.rate
    match estimate.bottleneck.name:
        case "driver":
            return (
                f"one driver schedules and commits {rate:,.0f} images/s; take bigger blocks (--workers.block-rows "
                f"{2 * plan.block_rows}) or several runs side by side, each with its own folder and driver"
            )
        case "object store":
            return (
                f"a key prefix gives {rate / plan.num_prefixes:,.0f} GETs/s; spread keys over more (--prefixes), or "
                "pack the images (--input packed)"
            )
        case _:
            return (
                f"{estimate.num_cores} cores read and decode {rate:,.0f} images/s; add cores, or store smaller images"
            )
