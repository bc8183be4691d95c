"""The report of a run: one HTML page that opens offline, in light and dark, on a phone and on paper.

Pure functions: what a run knows goes in as ReportContent, and the page comes out as text. Everything is inside it,
pictures as SVG whose colours follow the page's.
"""

from __future__ import annotations

import base64
import io
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from problems.outline import plots

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image

    from problems.outline.plots import Plot

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_PAGE_COLOURS = {
    plots.INK: "var(--ink)",
    plots.MUTED: "var(--muted)",
    plots.GRID: "var(--line)",
    plots.FIRST: "var(--first)",
    plots.SECOND: "var(--second)",
}
_MOST_EXAMPLE_COLUMNS = 10
_THUMBNAIL_PIXELS = 56
_FOR, _AGAINST = (230, 110, 0), (40, 110, 230)
# matplotlib keeps the salt of SVG ids in global settings, and runs may draw in threads.
_drawing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class SourceOrigin:
    """A raw file and where it was found; `differs` says in what it is not the public original, "" where it is."""

    name: str
    origin: str
    sha256: str
    size: int
    licence: str
    differs: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot as it stands in the page: SVG text, with title, a sentence on how to read it, and alt text."""

    name: str
    title: str
    note: str
    alt: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report tells. All texts are plain; the page escapes them.

    `outcome`      what became of the version, which gives the page its heading
    `decision`     the sentence that says so and why; it opens the page
    `card`         as `problems.outline.catalogue.read_card` gives it
    `facts`        numbers about the run worth a line, by their label: rows of each part, device, seconds, …
    `validation`   the ValidationResult of the data as JSON gives it, None where data was not validated
    `learning`     the learning curves, as `picture("learning", learning_curves(…))` gives them
    `importance`   how much each column matters, likewise
    `evaluation`   as `tasks.evaluation.evaluate` gives it; None where the data gate stopped the run
    `acceptance`   [{criterion, passed, reason}]
    `manifest`     everything about the run, nested as it likes
    `thumbnails`   images of the worst examples and of those with doubtful labels by their row, as data URIs
    `heat`         the worst examples with what their answers hang on, likewise
    """

    problem: str
    outcome: Literal["promoted", "kept", "refused"]
    decision: str
    card: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[SourceOrigin] = ()
    validation: Mapping[str, Any] | None = None
    learning: Picture | None = None
    importance: Picture | None = None
    evaluation: Mapping[str, Any] | None = None
    pictures: Sequence[Picture] = ()
    acceptance: Sequence[Mapping[str, Any]] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    thumbnails: Mapping[int, str] = field(default_factory=dict)
    heat: Mapping[int, str] = field(default_factory=dict)


def render_report(content: ReportContent) -> str:
    """The whole page. The same content gives the same bytes."""
    return render_page(
        "report.html.j2",
        content=content,
        evaluation=content.evaluation,
        manifest=flatten(content.manifest),
        example_columns=_example_columns(content.evaluation),
    )


def render_page(template: str, **values: Any) -> str:
    """A page of one of the templates, with the filters that these use; what is put in is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"inline": _inline, "value": _value, "bytes": _bytes, "words": _words, "sentence": sentence}
    environment.filters["exp"] = math.exp
    return environment.get_template(template).render(**values)


def picture(name: str, plot: Plot) -> Picture:
    """A plot of an objective, or the learning curves, drawn for the page and for a file of its own."""
    return Picture(name=name, title=plot.title, note=plot.note, alt=plot.alt, svg=figure_svg(plot.figure))


def figure_svg(figure: Figure) -> str:
    """The figure as an SVG file with real text; the same figure gives the same bytes."""
    return _draw(figure, "svg", metadata={"Date": None, "Creator": None}).decode()


def figure_png(figure: Figure, dots_per_inch: int = 150) -> bytes:
    """The figure as PNG, on white, for viewers that know no SVG."""
    return _draw(figure, "png", dpi=dots_per_inch, facecolor="white")


def thumbnail(image: np.ndarray) -> str:
    """A uint8 image (h, w) or (h, w, 1 or 3) as a PNG in a data URI; large ones are made smaller."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    picture.thumbnail((_THUMBNAIL_PIXELS * 2, _THUMBNAIL_PIXELS * 2))
    return _data_uri(picture)


def heat(image: np.ndarray, drops: Sequence[Sequence[float]]) -> str:
    """A uint8 image (h, w, 1 or 3) in grey, with a grid of numbers over it: orange above 0, blue below, stronger the
    further from 0, as a PNG in a data URI."""
    import numpy as np
    from PIL import Image

    side = _THUMBNAIL_PIXELS * 2
    grey = Image.fromarray(image.mean(axis=2).round().astype(np.uint8)).resize((side, side))
    grid = np.asarray(drops)
    strength = Image.fromarray(np.abs(grid / (np.abs(grid).max() or 1) * 200).astype(np.uint8))
    colours = np.where(grid[..., None] > 0, _FOR, _AGAINST).astype(np.uint8)
    picture = grey.convert("RGB")
    nearest = Image.Resampling.NEAREST
    picture.paste(Image.fromarray(colours).resize((side, side), nearest), mask=strength.resize((side, side), nearest))
    return _data_uri(picture)


def _data_uri(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "png")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _draw(figure: Figure, form: str, **options: Any) -> bytes:
    import matplotlib

    data = io.BytesIO()
    with _drawing, matplotlib.rc_context({"svg.hashsalt": "modelkeep", "svg.fonttype": "none"}):
        figure.savefig(data, format=form, **options)
    return data.getvalue()


def _inline(picture: Picture) -> Any:
    """The SVG for use inside a page: no prolog, ids of its own, colours of the page, any size, and its alt text."""
    from markupsafe import Markup, escape

    svg = picture.svg[picture.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{picture.name}-", svg)
    for colour, replacement in _PAGE_COLOURS.items():
        svg = svg.replace(colour, replacement)
    attributes = re.search(r'viewBox="[^"]*"', svg)
    opening = (
        f'<svg {attributes.group() if attributes else ""} role="img" aria-label="{escape(picture.alt)}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(opening + svg[svg.index(">") + 1 :])


def _value(value: Any) -> str:
    """A value of a frame or a manifest as a reader wants it."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _bytes(size: int) -> str:
    number = float(size)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def _words(name: str) -> str:
    return name.replace("_", " ")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names with dots for what is nested; lists of plain values as one text."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(member, Mapping) for member in value):
            flat |= flatten({str(place): member for place, member in enumerate(value, start=1)}, f"{prefix}{name}.")
        else:
            flat[prefix + name] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return flat


def _example_columns(evaluation: Mapping[str, Any] | None) -> list[str]:
    """The columns of the frame that are shown with the worst examples: slices first, ten at most."""
    if not evaluation or not evaluation["worst"]:
        return []
    columns = list(evaluation["worst"][0]["frame"])
    ordered = sorted(columns, key=lambda column: column not in evaluation["slices"])
    return ordered[:_MOST_EXAMPLE_COLUMNS]
