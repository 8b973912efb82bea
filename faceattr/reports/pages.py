"""HTML pages: one template environment and one style sheet (`templates/style.css`) for all reports."""

import math
from typing import Any

import jinja2

from faceattr.reports.tables.numbers import show_number


def render_page(template: str, *, package: str = "faceattr.reports", **values: Any) -> str:
    """Renders a page as escaped HTML; a name that the template uses and `values` lacks is an error.

    Args:
        template: file in the `templates` folder of the package.
        package: package of the template; its includes may be there or in this package.
        values: values of the template's names.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name, "templates") for name in dict.fromkeys([package, "faceattr.reports"])]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["kappa"] = format_kappa
    environment.filters["number"] = show_number
    return environment.get_template(template).render(**values)


def format_kappa(kappa: float) -> str:
    """Returns a kappa with three digits; of labels that are all one class there is none."""
    return "undefined" if math.isnan(kappa) else f"{kappa:.3f}"


def report_key(version: int) -> str:
    """Returns the key of a published version's report in its run folder."""
    return "report.html" if version == 1 else f"report-v{version}.html"
