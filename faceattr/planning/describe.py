"""A label plan as text."""

from faceattr.planning.advice import list_warnings
from faceattr.planning.label_plan import LabelEstimate, LabelPlan, compute_core_s
from faceattr.planning.rates import Rates


def describe_estimate(plan: LabelPlan, estimate: LabelEstimate, rates: Rates) -> str:
    """Time, machines, network, requests, storage, cost, warnings."""
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
        f"CPU cores   {estimate.num_cores:,} ({2 * estimate.num_cores:,} vCPUs): {stages} an image",
        f"network     {read_bits_per_s / 1e9:,.2f} Gbit/s from the store, {estimate.pixel_bytes_per_s * 8 / 1e9:,.2f} "
        "Gbit/s of pixels to the GPUs where they are decoded elsewhere",
        f"requests    {estimate.gets:,} GET, {estimate.puts:,} PUT and LIST",
        f"read        {estimate.read_bytes / 1e12:,.3f} TB",
        f"written     {estimate.output_bytes / 1e9:,.2f} GB: {estimate.num_shards:,} shards and the plan",
        *_cost_lines(plan, estimate, rates),
        *(f"WARNING     {warning}" for warning in list_warnings(plan, estimate, rates)),
    ]
    return "\n".join(lines)


def _cost_lines(plan: LabelPlan, estimate: LabelEstimate, rates: Rates) -> list[str]:
    total = sum(estimate.cost.values())
    items = ", ".join(f"{item} {usd:,.2f}" for item, usd in estimate.cost.items())
    per_million = total / plan.num_images * 1e6
    sources = [rates.prices["core_hour"].source, rates.prices["get"].source]
    if plan.gpu_price is None and rates.gpu(plan.gpu).price_source is not None:
        sources.insert(0, str(rates.gpu(plan.gpu).price_source))
    if plan.gpu_price is None or plan.core_price is None:
        sources.append("lists change: give yours with --gpu-price and --core-price")
    return [
        f"cost        USD {total:,.2f}, {per_million:,.2f} a million images: {items}",
        f"prices      {'; '.join(sources)}",
    ]


def describe_rates(rates: Rates) -> str:
    """The table with the source of each figure."""
    named = [*rates.figures.items(), *((f"price of {name}", each) for name, each in rates.prices.items())]
    lines = [f"{name:26} {each.value:>12,.7g} {each.unit}\n{'':26} {each.kind}: {each.source}" for name, each in named]
    return "\n".join(lines)


def format_hours(seconds: float) -> str:
    """Seconds as `12 s`, `3.4 min`, `5.6 h` or `7.8 days`."""
    for limit, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit:,.0f} {name}" if unit == 1 else f"{seconds / unit:,.1f} {name}"
    return f"{seconds / 86_400:,.1f} days"
