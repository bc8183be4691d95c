"""Contact sheets: scored pictures with what they were called, as a page that opens offline and as one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.windows import SetAside

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

PIXELS = 168
MOST_ON_PAGE = 500
MOST_ON_PICTURE = 60
_COLUMNS = 6
_GAP = 12
_LINE = 17
_INK, _MUTED, _PAPER = "#1f2937", "#5b6472", "#ffffff"


@dataclass(frozen=True)
class Shown:
    """A scored picture: its path, a JPEG of what the model saw of it, and its likeliest answers with their shares."""

    file: str
    jpeg: bytes
    answers: Sequence[tuple[str, float]]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The answers with their shares as a reader wants them: "97 %", "< 1 %"."""
        return [(f"{share * 100:.0f} %" if share >= 0.005 else "< 1 %", answer) for answer, share in self.answers]

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


def small_jpeg(image: np.ndarray) -> bytes:
    """A uint8 picture (h, w, 1 or 3), at most 168 pixels wide and high."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((PIXELS, PIXELS))
    data = io.BytesIO()
    picture.save(data, "jpeg", quality=82)
    return data.getvalue()


def draw_sheet(shown: Sequence[Shown]) -> bytes:
    """A PNG of the first 60, six in a row, each with its name and its two likeliest answers."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = shown[:MOST_ON_PICTURE]
    columns = min(_COLUMNS, len(drawn))
    width, height = PIXELS + _GAP, PIXELS + 3 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, -(-len(drawn) // columns) * height + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, one in enumerate(drawn):
        left, top = _GAP + place % columns * width, _GAP + place // columns * height
        picture = Image.open(io.BytesIO(one.jpeg))
        sheet.paste(picture, (left, top))
        _write(draw, font, (left, top + PIXELS + 4), one)
    return _png(sheet)


def _write(draw: ImageDraw.ImageDraw, font: Any, corner: tuple[int, int], one: Shown) -> None:
    left, top = corner
    lines = [" ".join(line) for line in one.lines[:2]]
    for number, line in enumerate([*lines, one.file]):
        colour = _INK if number == 0 else _MUTED
        draw.text((left, top + number * _LINE), _cut(line, font), fill=colour, font=font)


def _cut(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text, with an ellipsis where it is wider than a picture."""
    text = text.encode("ascii", "replace").decode()  # Pillow's own font has no others
    if font.getlength(text) <= PIXELS:
        return text
    while text and font.getlength(text + "...") > PIXELS:
        text = text[:-1]
    return text + "..."


def _png(sheet: Image.Image) -> bytes:
    data = io.BytesIO()
    sheet.save(data, "png", optimize=True)
    return data.getvalue()


def render_sheet(
    title: str, sentence: str, shown: Sequence[Shown], num_scored: int, set_aside: Sequence[SetAside]
) -> str:
    """A page of the first 500, with what was set aside and why."""
    from tasks.report_page import render_page

    return render_page(
        "contact_sheet.html.j2",
        title=title,
        sentence=sentence,
        shown=shown[:MOST_ON_PAGE],
        num_scored=num_scored,
        set_aside=set_aside,
    )
