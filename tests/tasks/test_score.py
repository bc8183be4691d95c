"""Scoring: every picture gets an answer or a reason, and the files appear whole or not at all."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from problems.outline import Binary, Multiclass
from problems.photos import problem as photos
from store import open_store
from store.registry import Registry
from tasks.champion import NoChampion, load_champion
from tasks.contact_sheet import MOST_ON_PICTURE, Shown, draw_sheet, render_sheet, small_jpeg
from tasks.fit import ModelCannotBeKept
from tasks.kept_windows import choose_window
from tasks.score import answer, score
from tasks.windows import SetAside, WindowInvalid
from tests.photo_champion import CLASSES, register_champion

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store whose champion of photos tells red, green and blue apart, and calls 997 other things unlikely."""
    uri = str(tmp_path / "store")
    register_champion(open_store(uri))
    return uri


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 48), colour).save(folder / f"{name}.jpg", quality=95)
    return folder


def scored(folder: Path, tmp_path: Path, store: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The table of answers, what was set aside, and the page."""
    told = score.fn("photos", str(folder), str(tmp_path / "out"), store)
    table, aside = pd.read_parquet(told.scores), pd.read_csv(told.rejected)
    assert (len(table), len(aside)) == (told.num_scored, told.num_set_aside)
    return table, aside, Path(told.page).read_text()


def test_each_picture_gets_its_five_likeliest_labels_with_probabilities(
    folder: Path, tmp_path: Path, store: str
) -> None:
    table, aside, _ = scored(folder, tmp_path, store)
    assert dict(zip(table["file"], table["label_1"], strict=True)) == {f"{name}.jpg": name for name in COLOURS}
    shares = table[[f"probability_{place}" for place in range(1, 6)]].to_numpy()
    assert shares.dtype == np.float32 and (np.diff(shares, axis=1) <= 0).all() and shares[:, 0].min() > 0.9
    assert len(aside) == 0
    assert (table.attrs["problem"], table.attrs["version"]) == ("photos", 1)


FORMS: dict[str, Any] = {
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "palette.png": lambda image: image.convert("P"),
    "alpha.webp": lambda image: image.convert("RGBA"),
    "still.gif": lambda image: image,
    "deep.tif": lambda image: image,
    "large.png": lambda image: image.resize((3000, 2000)),
}


def test_a_picture_of_any_form_is_scored(folder: Path, tmp_path: Path, store: str) -> None:
    red = Image.new("RGB", (64, 48), COLOURS["red"])
    for name, change in FORMS.items():
        change(red).save(folder / name)
    red.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", red.size, "blue")] * 3)
    Image.effect_noise(red.size, 60).save(folder / "grey.jpg")
    table, aside, _ = scored(folder, tmp_path, store)
    labels = dict(zip(table["file"], table["label_1"], strict=True))
    assert {labels[name] for name in (*FORMS, "moving.gif")} == {"red"}
    assert "grey.jpg" in labels and len(aside) == 0


def test_a_picture_that_cannot_be_read_is_set_aside_and_the_others_are_scored(
    folder: Path, tmp_path: Path, store: str
) -> None:
    whole = (folder / "red.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page <b>.jpg").write_text("<html>not found</html>")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    table, aside, page = scored(folder, tmp_path, store)
    assert len(table) == 3
    assert aside["file"].tolist() == ["cut.jpg", "empty.png", "huge.png", "page <b>.jpg"]
    assert aside["reason"].str.len().min() > 10
    assert "pixels" in aside.set_index("file").loc["huge.png", "reason"]
    assert "page &lt;b&gt;.jpg" in page and "<b>" not in page


def test_answers_do_not_depend_on_how_pictures_fall_into_chunks(
    folder: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        Image.effect_noise((40, 40), 30 + number).convert("RGB").save(folder / f"noise{number}.png")
    first, _, _ = scored(folder, tmp_path, store)
    monkeypatch.setattr("tasks.score_rows.CHUNK_ROWS", 2)
    second, _, _ = scored(folder, tmp_path, store)
    assert first["label_1"].tolist() == second["label_1"].tolist()
    assert first["probability_1"].to_numpy() == pytest.approx(second["probability_1"].to_numpy(), abs=1e-5)


def test_a_picture_unlike_any_that_was_learnt_from_is_set_aside_with_the_rule_that_it_breaks(
    folder: Path, tmp_path: Path, store: str
) -> None:
    Image.new("RGB", (64, 48), "grey").save(folder / "blank.png")
    table, aside, _ = scored(folder, tmp_path, store)
    assert aside["file"].tolist() == ["blank.png"] and "std" in aside["reason"][0] and len(table) == 3


def test_a_folder_is_kept_as_a_window_and_not_scored_twice_until_it_changes(
    folder: Path, tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "notes.txt").write_text("not a picture")
    with caplog.at_level("INFO", "modelkeep"):
        first, _, page = scored(folder, tmp_path, store)
        assert "already" not in caplog.text
        second, _, same_page = scored(folder, tmp_path, store)
        assert "already" in caplog.text
    pd.testing.assert_frame_equal(first, second)
    assert page == same_page
    kept = choose_window(open_store(store), "photos")
    assert (kept.num_scored, kept.num_set_aside, kept.input["size"]) == (3, 0, 3)  # the notes are no picture
    scores = pd.read_parquet(open_store(store).local_path(kept.artifacts["scores"]))
    assert scores["file"].tolist() == ["blue.jpg", "green.jpg", "red.jpg"]
    (folder / "more.txt").write_text("nor this")
    assert len(scored(folder, tmp_path, store)[1]) == 2
    Image.new("RGB", (64, 48), COLOURS["red"]).save(folder / "blue.jpg", quality=95)
    assert scored(folder, tmp_path, store)[0]["label_1"].tolist() == ["red", "green", "red"]


def test_if_nothing_can_be_read_nothing_is_written_and_an_earlier_answer_stays(
    folder: Path, tmp_path: Path, store: str
) -> None:
    scored(folder, tmp_path, store)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 4
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(WindowInvalid, match="None of the pictures"):
        score.fn("photos", str(folder), str(tmp_path / "out"), store)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_without_a_champion_it_is_said_how_to_get_one(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoChampion, match="modelkeep train photos"):
        score.fn("photos", str(folder), str(tmp_path / "out"), str(tmp_path / "empty"))


def test_an_altered_champion_is_not_asked(folder: Path, tmp_path: Path, store: str) -> None:
    from store.errors import ArtifactCorrupt

    (model,) = Path(store).rglob("model.keras")
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises((ArtifactCorrupt, ModelCannotBeKept)) as refused:
        load_champion(photos, open_store(store))
    assert isinstance(refused.value, ArtifactCorrupt)
    assert not (tmp_path / "out").exists()


def test_the_names_of_classes_are_the_versions_own(store: str) -> None:
    assert load_champion(photos, open_store(store)).objective.target_labels(np.array([1])) == [CLASSES[1]]


def test_the_champion_that_is_asked_is_the_one_of_now(folder: Path, tmp_path: Path, store: str) -> None:
    register_champion(open_store(store), shift=1)
    registry = Registry(open_store(store))
    registry.rollback("photos", actor="test", reason="worse")
    assert scored(folder, tmp_path, store)[0].attrs["version"] == 1


def test_of_few_classes_all_are_told_and_other_objectives_answer_in_their_own_columns() -> None:
    three = Multiclass(classes=("a", "b", "c"))
    told = answer(three, three.predictions(np.array([[0.2, 0.5, 0.3]])))
    assert told.filter(like="label").to_numpy().tolist() == [["b", "c", "a"]]
    assert answer(Binary(), Binary().predictions(np.array([[0.9]])))["predicted"].tolist() == ["yes"]


# --- contact sheets ------------------------------------------------------------------------------------------------


def shown(count: int, file: str = "a.jpg") -> list[Shown]:
    jpeg = small_jpeg(np.full((224, 224, 3), 200, "uint8"))
    return [Shown(file, jpeg, [("magpie", 0.97), ("goose", 0.001)])] * count


def test_the_page_is_whole_in_itself_and_shows_each_picture_with_its_labels(
    folder: Path, tmp_path: Path, store: str
) -> None:
    _, _, page = scored(folder, tmp_path, store)
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    assert [name for _, name in pictures] == ["blue.jpg", "green.jpg", "red.jpg"]
    red = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[2][0]))))
    assert red.shape == (168, 168, 3) and red[84, 84] == pytest.approx(COLOURS["red"], abs=12)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "3 pictures were scored by photos version 1, and nothing was set aside." in page


def test_of_many_pictures_the_page_shows_the_first_and_says_so() -> None:
    page = render_sheet("Photos", "Scored.", shown(700), 700, [SetAside("x", "hidden")] * 150)
    assert page.count("<img") == 500 and "first 500 of 700" in page and "first 100 of 150" in page
    assert "97 %" in page and "&lt; 1 %" in page


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (6, 6, 1), (7, 6, 2), (MOST_ON_PICTURE + 9, 6, 10)])
def test_the_picture_has_six_in_a_row(count: int, columns: int, rows: int) -> None:
    sheet = Image.open(io.BytesIO(draw_sheet(shown(count, "a name that is far too long ümläut 猫.jpg"))))
    assert sheet.size == (columns * 180 + 12, rows * 243 + 12)


def test_a_grey_picture_can_be_shown() -> None:
    assert Image.open(io.BytesIO(small_jpeg(np.zeros((28, 28, 1), "uint8")))).size == (28, 28)
