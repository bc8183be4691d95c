"""Windows: what of a folder is a picture, and why the rest is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from problems.digits import problem as digits
from problems.housing import problem as housing
from problems.outline import Stack
from problems.photos import decode
from problems.photos import problem as photos
from tasks.windows import (
    OutputInvalid,
    WindowInvalid,
    choose_outputs,
    choose_table_outputs,
    is_table,
    open_window,
    read_pictures,
    readable,
    require_rows,
    require_window,
    window_digest,
)

assert isinstance(photos.rows, Stack)
FORM: Stack = photos.rows


def save(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "in" / "b.JPG")
    save(tmp_path / "in" / "a" / "deep" / "x.png")
    return tmp_path / "in"


def reasons(folder: Path) -> dict[str, str]:
    return {one.file: one.reason for one in open_window(photos, str(folder)).set_aside}


def test_pictures_are_found_in_all_folders_and_sorted(folder: Path) -> None:
    assert open_window(photos, str(folder)).files == ("a/deep/x.png", "b.JPG")
    assert reasons(folder) == {}


def test_one_picture_may_be_given(folder: Path) -> None:
    window = open_window(photos, str(folder / "b.JPG"))
    assert (window.root, window.files) == (folder, ("b.JPG",))


def test_what_is_no_picture_is_set_aside_with_the_reason(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / "nothing").write_text("x")
    (folder / ".DS_Store").write_text("x")
    save(folder / ".thumbnails" / "small.png")
    os.mkfifo(folder / "pipe.jpg")
    assert reasons(folder) == {
        ".DS_Store": "hidden",
        ".thumbnails": "hidden",
        "notes.txt": "no picture by its name, which ends in .txt",
        "nothing": "no picture by its name, which ends in nothing",
        "pipe.jpg": "neither a file nor a folder",
    }


def test_links_are_not_followed_even_in_circles(folder: Path, tmp_path: Path) -> None:
    (folder / "link.jpg").symlink_to(save(tmp_path / "elsewhere.jpg"))
    (folder / "gone.jpg").symlink_to(tmp_path / "missing")
    (folder / "a" / "circle").symlink_to(folder)
    assert set(reasons(folder)) == {"link.jpg", "gone.jpg", "a/circle"}
    assert set(reasons(folder).values()) == {"a link; links are not followed"}


def test_a_name_that_is_not_utf_8_is_read_and_told_in_letters_that_can_be_written(folder: Path) -> None:
    data = (folder / "b.JPG").read_bytes()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(data)
    window = open_window(photos, str(folder))
    (chunk,) = read_pictures(window, FORM, 10)
    assert chunk.rows.tolist() == [0, 1, 2] and readable(window.files[2]) == "caf\ufffd.jpg"
    readable(window.files[2]).encode()


def test_chunks_are_full_but_the_last_and_hold_what_the_problem_decodes(folder: Path) -> None:
    for number in range(5):
        save(folder / f"more{number}.png")
    window = open_window(photos, str(folder))
    chunks = list(read_pictures(window, FORM, 3))
    assert [chunk.content.shape for chunk in chunks] == [(3, 224, 224, 3), (3, 224, 224, 3), (1, 224, 224, 3)]
    (last,) = read_pictures(window, FORM, 3, skip=2)
    assert (last.number, last.rows.tolist()) == (2, [6])


def test_a_picture_that_went_away_or_is_cut_short_is_set_aside(folder: Path) -> None:
    save(folder / "cut.png", "blue")
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:40])
    window = open_window(photos, str(folder))
    (folder / "b.JPG").unlink()
    (chunk,) = read_pictures(window, FORM, 10)
    assert window.files[chunk.rows[0]] == "a/deep/x.png" and len(chunk.content) == 1
    told = {window.files[row]: reason for row, reason in chunk.faults.items()}
    assert "No such file" in told["b.JPG"] and "40 bytes" in told["cut.png"]


def test_the_digest_of_a_folder_is_that_of_its_names_and_bytes(folder: Path, tmp_path: Path) -> None:
    digest = window_digest(open_window(photos, str(folder)))
    moved = folder.rename(tmp_path / "elsewhere")
    assert window_digest(open_window(photos, str(moved))) == digest
    (moved / "b.JPG").rename(moved / "c.JPG")
    assert window_digest(open_window(photos, str(moved))) != digest


def test_a_file_too_large_to_be_a_picture_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("tasks.windows.MAX_FILE_BYTES", 10)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    (chunk,) = read_pictures(open_window(photos, str(folder)), FORM, 10)
    assert len(chunk.faults) == 2 and "larger" in chunk.faults[0] and not len(chunk.rows)


def test_a_window_without_pictures_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x")
    with pytest.raises(WindowInvalid, match=r"table\.csv"):
        open_window(photos, str(tmp_path))
    with pytest.raises(WindowInvalid, match="nothing to score"):
        open_window(photos, str(tmp_path / "missing"))
    with pytest.raises(WindowInvalid, match="an address"):
        open_window(photos, "https://example.org/photos")


def test_a_folder_is_no_window_of_a_table_and_some_problems_have_none_yet(folder: Path) -> None:
    with pytest.raises(WindowInvalid, match=r"housing are tables[^$]*\.parquet"):
        open_window(housing, str(folder))
    with pytest.raises(WindowInvalid, match="housing cannot be scored yet"):
        open_window(replace(housing, rows=None), str(folder))


def test_a_table_is_known_by_its_name_wherever_it_lies() -> None:
    assert is_table(housing, "may.CSV") and is_table(housing, "https://example.org/may.parquet?part=1")
    assert not is_table(housing, "may") and not is_table(photos, "may.csv")


def test_a_window_must_be_one_of_the_problems(folder: Path) -> None:
    require_window(photos, str(folder))
    with pytest.raises(WindowInvalid, match="nothing to score"):
        require_window(housing, str(folder / "may.csv"))
    with pytest.raises(WindowInvalid, match=r"cannot be scored yet[^$]*model\.keras"):
        require_rows(replace(housing, rows=None))
    with pytest.raises(WindowInvalid, match=r"digits are tables[^$]*\.npz"):
        require_window(digits, "may.csv")


@pytest.mark.parametrize("name", ["may.csv", "may.JSONL", "notes"])
def test_answers_are_parquet_whatever_the_name_of_the_output_says(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file")
    with pytest.raises(OutputInvalid, match=r"written as Parquet[^$]*\.parquet"):
        choose_table_outputs(str(tmp_path / name), "https://example.org/may.csv")
    with pytest.raises(OutputInvalid, match="written as Parquet"):
        choose_outputs(str(tmp_path / name), open_window(photos, str(folder)))


def test_scores_must_not_take_the_place_of_the_table(tmp_path: Path) -> None:
    table = tmp_path / "may.parquet"
    table.write_bytes(b"")
    with pytest.raises(OutputInvalid, match="place of what is to be scored"):
        choose_table_outputs(str(table), str(table))
    assert choose_table_outputs(str(tmp_path), str(table)).scores == tmp_path / "predictions.parquet"


def test_outputs_lie_in_a_folder_or_beside_a_named_file(folder: Path, tmp_path: Path) -> None:
    window = open_window(photos, str(folder))
    in_folder = choose_outputs(str(tmp_path / "out"), window)
    assert in_folder.scores == tmp_path / "out" / "predictions.parquet"
    named = choose_outputs(str(tmp_path / "out" / "may.2026.parquet"), window)
    names = [path.name for path in (named.scores, named.rejected, named.page, named.picture)]
    assert names == ["may.2026.parquet", "may.2026.rejected.csv", "may.2026.html", "may.2026.png"]


def test_outputs_must_not_lie_among_the_pictures(folder: Path, tmp_path: Path) -> None:
    window = open_window(photos, str(folder))
    (tmp_path / "linked").symlink_to(folder)
    for place in (folder, folder / "out", folder / "a" / "x.parquet", tmp_path / "linked" / "out"):
        with pytest.raises(OutputInvalid, match="among the pictures"):
            choose_outputs(str(place), window)


def test_decoded_pictures_are_what_training_reads(folder: Path) -> None:
    (chunk,) = read_pictures(open_window(photos, str(folder / "b.JPG")), FORM, 4)
    assert np.array_equal(chunk.content[0], decode((folder / "b.JPG").read_bytes(), "b.JPG"))
