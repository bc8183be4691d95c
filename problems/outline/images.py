"""Pictures read safely: one form for every kind of file, with limits, and folders of them by class."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from problems.outline.raw import BadInput, looks_like, read_archive

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

    from problems.outline.problem import Inputs, Stack

# Formats with a decoder inside Pillow; others, such as EPS, start programs.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000

Fit = Literal["crop", "stretch"]


class ImageUnreadable(BadInput):
    """A picture is cut short, damaged, too large or no picture."""


def decode_image(
    data: bytes, size: tuple[int, int], *, name: str = "", max_pixels: int = MAX_PIXELS, fit: Fit = "crop"
) -> np.ndarray:
    """A picture of any form as uint8 (height, width, 3), red, green and blue; `size` is (height, width).

    It is turned as its EXIF says, an animation gives its first frame, transparent parts are white, 16 bits become 8,
    and values of 32 bits or with a decimal point are spread from the darkest to the brightest. `fit` "crop" keeps the
    proportions and cuts what is too much from the longer side, at both ends; "stretch" does not.
    Raises ImageUnreadable naming `name`, before anything is unpacked for more than `max_pixels`.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on sizes and metadata: the limit is ours, and what matters is refused
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _require_pixels(image, max_pixels, name)
            longest = 2 * max(size)
            image.draft(None, (longest, longest))  # JPEG only: unpacked in no more detail than is needed
            image.load()
            rgb = _as_rgb(_turned(image))
            height, width = size
            if fit == "crop":
                return np.asarray(ImageOps.fit(rgb, (width, height), Image.Resampling.BICUBIC))
            return np.asarray(rgb.resize((width, height), Image.Resampling.BICUBIC))
    except BadInput:
        raise
    except Image.DecompressionBombError as fault:  # Pillow's own limit, whatever ours is
        raise _too_large(name, max_pixels, str(fault)) from None
    except UnidentifiedImageError:
        raise _unreadable(data, name, "not a known kind of picture") from None
    except Exception as fault:  # Pillow's decoders raise nearly every kind of error on damaged files.
        raise _unreadable(data, name, str(fault)) from fault


def _turned(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Damaged EXIF is no reason to refuse a whole picture.
        return image


def _as_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 257 + 0.5, "L")
    elif image.mode in ("I", "F"):
        image = _spread(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def _spread(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, np.float32))
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8))


def _require_pixels(image: Image.Image, max_pixels: int, name: str) -> None:
    if image.width * image.height > max_pixels:
        raise _too_large(name, max_pixels, f"{image.width:,} × {image.height:,} pixels")


def _too_large(name: str, max_pixels: int, received: str) -> ImageUnreadable:
    return ImageUnreadable(
        "A picture is larger than it may be.",
        where=name,
        expected=f"at most {max_pixels:,} pixels",
        received=received,
        next_step="make it smaller, or leave it out",
    )


def _unreadable(data: bytes, name: str, fault: str) -> ImageUnreadable:
    looks = looks_like(data[:4096])
    kind = "" if looks in ("", "binary data", "a PNG image") else f"{looks}, "
    return ImageUnreadable(
        "A picture cannot be read.",
        where=name,
        expected=f"a whole picture as {', '.join(FORMATS)}",
        received=f"{kind}{len(data):,} bytes: {fault}",
        next_step="get the file again, convert it, or leave it out",
    )


def is_picture(array: Any) -> bool:
    """Whether a feature holds pictures: uint8 (n, height, width, 1 or 3)."""
    return str(array.dtype) == "uint8" and array.ndim == 4 and array.shape[-1] in (1, 3)


def picture_inputs(images: np.ndarray) -> Inputs:
    """`image`, uint8 (n, height, width, 3), and a summary of each picture (`summarise_images`)."""
    from problems.outline.problem import Inputs
    from validation.summaries import summarise_images

    return Inputs({"image": images}, summarise_images(images))


def photo_rows(size: tuple[int, int], classes: Sequence[str], decode: Callable[[bytes, str], np.ndarray]) -> Stack:
    """How colour photos of a size (height, width) are windows; without classes nothing is learnt from them."""
    from problems.outline.problem import Stack, Truth

    truth = Truth(column="label", words={name: number for number, name in enumerate(classes)})
    known = truth if classes else None
    return Stack(name="image", dtype="uint8", shape=(*size, 3), inputs=picture_inputs, truth=known, decode=decode)


@dataclass(frozen=True)
class LabelledImages:
    """`images` uint8 (n, height, width, 3), `labels` uint8 (n,): places in the classes; of each picture its `parts`
    ("train" or "test") and the name of its `files`."""

    images: np.ndarray
    labels: np.ndarray
    parts: Sequence[str]
    files: Sequence[str]

    def describe(self, classes: Sequence[str]) -> pd.DataFrame:
        """A row per picture: its file, its summary (`summarise_images`), label by name and part."""
        import numpy as np

        from validation.summaries import summarise_images

        frame = summarise_images(self.images)
        frame.insert(0, "file", list(self.files))  # first, for those who look at examples
        return frame.assign(label=np.array(classes, object)[self.labels], part=self.parts)


def read_image_archive(
    path: Path,
    classes: Sequence[str],
    size: tuple[int, int],
    *,
    max_bytes: int,
    max_files: int,
    unlabelled: Sequence[str] = (),
) -> LabelledImages:
    """All pictures of an archive with folders …/train/<class>/… and …/test/<class>/…; `size` is (height, width).

    A folder that has "test" in its name is the test part, whatever is elsewhere the training part. Pictures in a
    folder named in `unlabelled`, files of other kinds and hidden ones are passed over. Nothing is written to disk.
    Raises BadInput, and ImageUnreadable naming the file.
    """
    import numpy as np

    # Appended to one flat buffer: the pictures are never held twice.
    pixels, labels, parts, files = bytearray(), bytearray(), list[str](), list[str]()
    for name, data in _pictures(path, max_bytes, max_files):
        *folders, label, _ = ["", *PurePosixPath(name).parts]
        if label in unlabelled:
            continue
        if label not in classes:
            raise _no_such_class(path, name, classes)
        pixels += decode_image(data, size, name=f"{path}, {name}").data
        labels.append(classes.index(label))
        parts.append("test" if any("test" in folder for folder in folders) else "train")
        files.append(name)
    if not files:
        raise _no_such_class(path, "no picture at all", classes)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *size, 3)
    return LabelledImages(images, np.frombuffer(labels, np.uint8), parts, files)


def _pictures(path: Path, max_bytes: int, max_files: int) -> Iterator[tuple[str, bytes]]:
    for name, data in read_archive(path, max_bytes=max_bytes, max_files=max_files):
        parts = PurePosixPath(name).parts
        is_hidden = any(part.startswith((".", "__")) for part in parts)
        if not is_hidden and parts[-1].lower().endswith(SUFFIXES):
            yield name, data


def _no_such_class(path: Path, received: str, classes: Sequence[str]) -> BadInput:
    return BadInput(
        "An archive of pictures does not have the folders that it should have.",
        where=str(path),
        expected=f"pictures in folders train/<class>/ and test/<class>/, the classes being {', '.join(classes)}",
        received=received,
        next_step="pack the pictures into a zip or tar with such folders",
    )
