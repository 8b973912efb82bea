"""A cost estimate as text: the figures, the bottleneck, and warnings with remedies."""

from faceattr.data.runs.plan import PART_ROWS, TARGET_SHARDS
from faceattr.planning.label_plan import CostEstimate, LabelEstimate, compute_core_s
from faceattr.planning.rates import Rates


def describe_estimate(plan: CostEstimate, estimate: LabelEstimate, rates: Rates) -> str:
    """Returns time, machines, network, requests, storage, cost and warnings as text."""
    found = estimate.bottleneck
    core_s = compute_core_s(plan, rates)
    stages = ", ".join(f"{stage} {seconds * 1e3:.2f} ms" for stage, seconds in core_s.items())
    use = ", ".join(f"{name} {share:.0%}" for name, share in found.use.items())
    read_bits_per_s = found.rate * plan.image_bytes * 8
    lines = [
        f"images      {plan.num_images:,} of {plan.pixels:,.0f} pixels, {plan.image_bytes / 1e3:,.1f} KB each",
        f"rate        {found.rate:,.0f} images/s, limited by: {found.name}",
        f"in use      {use}",
        f"time        {format_hours(estimate.total_s)}: "
        + ", ".join(f"{phase} {format_hours(seconds)}" for phase, seconds in estimate.phases_s.items()),
        f"GPUs        {plan.num_gpus} {plan.gpu}, {estimate.gpu_rate:,.0f} images/s each",
        f"CPU cores   {estimate.num_cores:,} ({2 * estimate.num_cores:,} vCPUs): {stages} per image",
        f"network     {read_bits_per_s / 1e9:,.2f} Gbit/s from the store, {estimate.pixel_bytes_per_s * 8 / 1e9:,.2f} "
        "Gbit/s of pixels to the GPUs if they are decoded elsewhere",
        f"requests    {estimate.gets:,} GET, {estimate.puts:,} PUT and LIST",
        f"read        {estimate.read_bytes / 1e12:,.3f} TB",
        f"written     {estimate.output_bytes / 1e9:,.2f} GB: {estimate.num_shards:,} shards and the plan",
        *_cost_lines(plan, estimate, rates),
        *(f"WARNING     {warning}" for warning in list_warnings(plan, estimate, rates)),
    ]
    return "\n".join(lines)


def _cost_lines(plan: CostEstimate, estimate: LabelEstimate, rates: Rates) -> list[str]:
    total = sum(estimate.cost.values())
    items = ", ".join(f"{item} {usd:,.2f}" for item, usd in estimate.cost.items())
    per_million = total / plan.num_images * 1e6
    sources = [rates.prices["core_hour"].source, rates.prices["get"].source]
    if plan.gpu_price is None and rates.gpu(plan.gpu).price_source is not None:
        sources.insert(0, str(rates.gpu(plan.gpu).price_source))
    if plan.gpu_price is None or plan.core_price is None:
        sources.append("list prices change: set yours with --gpu-price and --core-price")
    return [
        f"cost        USD {total:,.2f}, {per_million:,.2f} per million images: {items}",
        f"prices      {'; '.join(sources)}",
    ]


def describe_rates(rates: Rates) -> str:
    """Returns the table of rates as text, with the source of each."""
    named = [*rates.figures.items(), *((f"price of {name}", each) for name, each in rates.prices.items())]
    lines = [f"{name:26} {each.value:>12,.7g} {each.unit}\n{'':26} {each.kind}: {each.source}" for name, each in named]
    for name, gpu in rates.gpus.items():
        if gpu.images_per_s is not None:
            shown = ", ".join(f"{rate:,.0f} at {questions}" for questions, rate in gpu.images_per_s.items())
            lines.append(f"{f'scorer on {name}':26} {shown} questions, images/s\n{'':26} measured: {gpu.rate_source}")
    return "\n".join(lines)


def format_hours(seconds: float) -> str:
    """Returns seconds as `12 s`, `3.4 min`, `5.6 h` or `7.8 days`."""
    for limit, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit:,.0f} {name}" if unit == 1 else f"{seconds / unit:,.1f} {name}"
    return f"{seconds / 86_400:,.1f} days"


# Above this a run in one folder lists, verifies and resumes slowly: its shards cannot grow further.
_MOST_ROWS = TARGET_SHARDS * PART_ROWS
_MUCH_PIXEL_TRAFFIC = 50e9  # bits per second; a fast node has 100e9 to 400e9


def list_warnings(plan: CostEstimate, estimate: LabelEstimate, rates: Rates) -> list[str]:
    """Returns warnings, each one sentence with a remedy; the bottleneck comes first."""
    found, warnings = estimate.bottleneck, []
    idle = 1 - found.use["GPUs"]
    if idle > 0.05:
        warnings.append(f"limited by the {found.name}, the GPUs idle {idle:.0%}: {_remedy(plan, estimate)}")
    if plan.input_kind == "prefix" and estimate.phases_s["list and plan"] > 0.1 * estimate.phases_s["label"]:
        warnings.append(
            "listing takes long: give a manifest (an inventory of the bucket as Parquet) and plan with --input manifest"
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
    if plan.gpu_rate is None and rates.gpu(plan.gpu).images_per_s is None:
        warnings.append(
            f"the rate of an {plan.gpu} is scaled by its peak from a GPU that was measured: run `faceattr label "
            "--dry-run` on one and set --gpu-rate"
        )
    elif plan.gpu_rate is None and not plan.is_measured:
        warnings.append(
            f"this model was never measured on an {plan.gpu}: its rate is scaled by GFLOP from one that was; run "
            "`faceattr label --dry-run` on one and set --gpu-rate"
        )
    if "GPUs" not in estimate.cost:
        warnings.append(f"no list price of {plan.gpu} is known here: set --gpu-price; the cost is without GPUs")
    return warnings


def _remedy(plan: CostEstimate, estimate: LabelEstimate) -> str:
    rate = estimate.bottleneck.rate
    match estimate.bottleneck.name:
        case "driver":
            return (
                f"one driver schedules and commits {rate:,.0f} images/s; use larger blocks (--workers.block-rows "
                f"{2 * plan.block_rows}) or several concurrent runs, each with its own folder and driver"
            )
        case "object store":
            return (
                f"a key prefix serves {rate / plan.num_prefixes:,.0f} GETs/s; spread keys over more (--prefixes), or "
                "pack the images (--input packed)"
            )
        case _:
            return (
                f"{estimate.num_cores} cores read and decode {rate:,.0f} images/s; add cores, or store smaller images"
            )
