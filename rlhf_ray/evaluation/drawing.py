"""Figures in the style of the report's page, as SVG elements that follow its colours."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for the page's own, so that plots follow it into dark mode.
INK, RULE, ALARM, REWARD, RUBRIC = STANDINS = ("#010101", "#010102", "#010103", "#010104", "#010105")
COLOURS = ("currentColor", "var(--rule)", "var(--alarm)", "var(--reward)", "var(--rubric)")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rlhf_ray",  # ids are random without
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    **dict.fromkeys(("grid.color", "axes.edgecolor", "xtick.color", "ytick.color"), RULE),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
}


@contextmanager
def figure(size: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """A figure of its own in the page's style; pyplot's global state is left alone."""
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=size, layout="constrained")
        yield drawn, drawn.subplots()


def inline(drawn: Figure, name: str, said: str) -> Markup:
    """The figure as an SVG element for HTML, with `said` for those who cannot see it and ids that begin with `name`."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(said)}"', 1)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r"font-family: [^;]*; ", "", svg)  # the page's font instead
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for standin, colour in zip(STANDINS, COLOURS, strict=True):
        svg = svg.replace(standin, colour)
    return Markup(svg)  # noqa: S704  (matplotlib escapes its texts)
