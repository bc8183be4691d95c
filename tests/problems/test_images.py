"""Pictures: one form for every kind of file, refusals that name the file, archives with folders by class."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from problems.outline.images import ImageUnreadable, decode_image, read_image_archive
from problems.outline.raw import BadInput

CLASSES = ("cat", "dog")
LIMITS: Any = {"max_bytes": 1_000_000, "max_files": 100}
ORANGE = (200, 100, 50)
PICTURE = Image.new("RGB", (60, 40), ORANGE)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def deep(dtype: str, values: Any) -> Image.Image:
    return Image.fromarray(np.broadcast_to(np.asarray(values, dtype), (40, 60)).copy())


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (encode(PICTURE, "JPEG", quality=95), ORANGE),
        (encode(PICTURE.convert("CMYK"), "JPEG", quality=95), ORANGE),
        (encode(PICTURE.convert("L"), "PNG"), (124, 124, 124)),
        (encode(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), ORANGE),
        (encode(Image.new("RGBA", (60, 40), (*ORANGE, 0)), "PNG"), (255, 255, 255)),
        (encode(Image.new("LA", (60, 40), (0, 128)), "PNG"), (127, 127, 127)),
        (encode(Image.new("1", (60, 40), 1), "PNG"), (255, 255, 255)),
        (encode(deep("uint16", 0x8000), "PNG"), (128, 128, 128)),
        (encode(deep("uint16", 0x8000), "TIFF"), (128, 128, 128)),
        (encode(PICTURE, "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40), "blue")]), ORANGE),
        (encode(PICTURE, "WEBP", lossless=True), ORANGE),
        (encode(PICTURE, "BMP"), ORANGE),
    ],
    ids=[
        "rgb",
        "cmyk",
        "grey",
        "palette",
        "transparent",
        "half-transparent",
        "bitmap",
        "16-bit-png",
        "16-bit-tiff",
        "animated",
        "webp",
        "bmp",
    ],
)
def test_every_kind_of_picture_becomes_the_same_form(data: bytes, colour: tuple[int, ...]) -> None:
    image = decode_image(data, (20, 30))
    assert image.dtype == np.uint8 and image.shape == (20, 30, 3)
    assert np.abs(image.astype(int) - colour).max() <= 2


@pytest.mark.parametrize(("dtype", "values"), [("int32", np.arange(60) * 1000), ("float32", np.linspace(-3, 3, 60))])
def test_deeper_values_are_spread_over_what_eight_bits_can_say(dtype: str, values: np.ndarray) -> None:
    row = decode_image(encode(deep(dtype, values), "TIFF"), (40, 60))[0, :, 0]
    assert row[0] <= 3 and row[-1] >= 252 and (np.diff(row.astype(int)) >= 0).all()


def test_a_flat_picture_of_deeper_values_is_black_and_not_an_error() -> None:
    assert decode_image(encode(deep("float32", 7), "TIFF"), (4, 4)).max() == 0


def test_a_picture_is_turned_as_its_camera_says() -> None:
    half = Image.new("RGB", (60, 40), "black")
    half.paste((255, 255, 255), (0, 0, 30, 40))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left becomes up
    image = decode_image(encode(half, "JPEG", quality=95, exif=exif), (60, 40))
    assert image[:25].min() > 240 and image[35:].max() < 15


def test_damaged_metadata_do_not_spoil_a_whole_picture() -> None:
    data = encode(PICTURE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode_image(data, (20, 30)).shape == (20, 30, 3)


def test_a_longer_picture_is_cut_at_both_ends_or_squeezed() -> None:
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste((255, 255, 255), (30, 0, 60, 30))  # white in the middle third
    assert decode_image(encode(wide, "PNG"), (30, 30)).min() > 200
    squeezed = decode_image(encode(wide, "PNG"), (30, 30), fit="stretch")
    assert squeezed[:, :8].max() < 15 and squeezed[:, 12:18].min() > 240


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (encode(noise(60, 40), "JPEG")[:1500], "truncated"),
        (encode(noise(60, 40), "PNG")[:3000], "truncated"),
        (encode(noise(60, 40), "GIF")[:2000], "truncated"),
        (b"", "an empty file"),
        (b"<html>not found</html>", "an HTML page"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "not a known kind of picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a known kind of picture"),
    ],
    ids=["jpeg", "png", "gif", "empty", "html", "heic", "eps"],
)
def test_what_is_cut_short_or_no_picture_is_refused_by_name(data: bytes, received: str) -> None:
    with pytest.raises(ImageUnreadable) as refused:
        decode_image(data, (20, 30), name="holiday/beach.jpg")
    assert refused.value.where == "holiday/beach.jpg"
    assert received in refused.value.received


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_unpacked() -> None:
    bomb = encode(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 200_000
    with pytest.raises(ImageUnreadable, match="larger"):
        decode_image(bomb, (20, 30))
    with pytest.raises(ImageUnreadable, match="larger"):
        decode_image(encode(PICTURE, "PNG"), (20, 30), max_pixels=2399)
    assert decode_image(encode(PICTURE, "PNG"), (20, 30), max_pixels=2400).shape == (20, 30, 3)


def archive(path: Path, entries: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in entries.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(path, "w:xz") as tar:
            for name, data in entries.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.xz"])
def test_folders_tell_class_and_part(tmp_path: Path, suffix: str) -> None:
    dark, light = (encode(Image.new("RGB", (8, 8), colour), "PNG") for colour in ("black", "white"))
    path = archive(
        tmp_path / f"pets{suffix}",
        {"pets/train/cat/1.png": dark, "pets/train/dog/2.PNG": light, "seg_test/seg_test/dog/3.png": dark},
    )
    found = read_image_archive(path, CLASSES, (4, 4), **LIMITS)
    assert found.images.shape == (3, 4, 4, 3) and found.images.dtype == np.uint8
    assert found.images[:, 0, 0, 0].tolist() == [0, 255, 0]
    frame = found.describe(CLASSES)
    assert frame["label"].tolist() == ["cat", "dog", "dog"]
    assert frame["part"].tolist() == ["train", "train", "test"]
    assert frame["digest"][0] == frame["digest"][2] != frame["digest"][1]


def test_pictures_without_a_class_are_left_out_where_the_problem_knows_of_them(tmp_path: Path) -> None:
    picture = encode(PICTURE, "PNG")
    path = archive(tmp_path / "pets.zip", {"train/cat/1.png": picture, "new/2.png": picture})
    found = read_image_archive(path, CLASSES, (4, 4), unlabelled=("new",), **LIMITS)
    assert found.files == ["train/cat/1.png"]


def test_what_computers_leave_beside_pictures_is_passed_over(tmp_path: Path) -> None:
    picture = encode(PICTURE, "PNG")
    entries = {"train/cat/1.png": picture, "__MACOSX/train/cat/._1.png": b"x", "train/.DS_Store": b"x"}
    entries |= {"train/cat/.2.png": picture, "README.md": b"hello"}
    assert read_image_archive(archive(tmp_path / "pets.zip", entries), CLASSES, (4, 4), **LIMITS).files == [
        "train/cat/1.png"
    ]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"train/bird/1.png": encode(PICTURE, "PNG")}, "train/bird/1.png"),
        ({"1.png": encode(PICTURE, "PNG")}, "1.png"),
        ({"README.md": b"hello"}, "no picture at all"),
        ({"train/cat/1.png": encode(PICTURE, "PNG")[:50]}, "train/cat/1.png"),
        ({"../cat/1.png": encode(PICTURE, "PNG")}, "leaves the folder"),
        ({"train/cat/1.png": bytes(2_000_000)}, "at most 1,000,000 bytes"),
        ({f"train/cat/{number}.txt": b"" for number in range(101)}, "at most 100 files"),
    ],
    ids=["unknown-class", "no-folders", "no-pictures", "damaged", "traversal", "too-large", "too-many"],
)
def test_an_archive_of_something_else_is_refused_with_what_is_wrong(
    tmp_path: Path, entries: dict[str, bytes], told: str
) -> None:
    with pytest.raises(BadInput) as refused:
        read_image_archive(archive(tmp_path / "pets.zip", entries), CLASSES, (4, 4), **LIMITS)
    assert told in str(refused.value)
