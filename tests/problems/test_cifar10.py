"""Small pictures: the forms that are read, what the checks catch, and augmentation that resumes exactly."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from problems.cifar10 import ARCHIVE, CLASSES, Cifar10Hyperparameters, problem
from problems.outline.problem import Examples, Files
from problems.outline.raw import BadInput
from tasks.engines import open_engine, weights_digest
from tasks.training import Position, Training
from validation.gate import ValidationFailed, require, validate


def make_sample(folder: Path) -> Path:
    """An archive of 320 pictures of noise, each class with a tint of its own."""
    random = np.random.default_rng(0)
    path = folder / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, label in enumerate(CLASSES):
            tint = np.random.default_rng(number).integers(60, 180, 3)
            for place in range(32):
                pixels = (tint + random.normal(0, 25, (32, 32, 3))).clip(0, 255).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                archive.writestr(f"{'train' if place < 24 else 'test'}/{label}/{place:04d}.png", file.getvalue())
    return path


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return problem.read(Files({ARCHIVE: make_sample(tmp_path_factory.mktemp("sample"))}))


def python2_pickle(pixels: np.ndarray, labels: list[int], names: list[str]) -> bytes:
    """A batch as the published file has it, opcode by opcode: no Python of today writes such pickles."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1"
    array += b"(M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1]) + b"t"
    array += b"cnumpy\ndtype\n(U\2u1K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
    array += text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    files = b"](" + b"".join(text(name.encode()) for name in names) + b"e"
    return b"\x80\2}(U\4data" + array + b"U\6labels" + numbers + b"U\tfilenames" + files + b"u."


def published(folder: Path, batches: dict[str, bytes]) -> Files:
    path = folder / ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return Files({ARCHIVE: path}, verified=frozenset({ARCHIVE}))


def test_the_published_pickles_become_photos_with_labels_and_parts(tmp_path: Path) -> None:
    red_left = np.zeros((1, 3, 32, 32), np.uint8)
    red_left[0, 0, :, :16] = 255
    other = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)
    files = published(
        tmp_path,
        {
            "batches.meta": b"not read",
            "test_batch": python2_pickle(other, [9, 1], ["a.png", "b.png"]),
            "data_batch_1": python2_pickle(red_left.reshape(1, -1), [3], ["c.png"]),
        },
    )
    found = problem.read(files)
    image = found.features["image"][0]
    assert found.features["image"].shape == (3, 32, 32, 3) and image.dtype == np.uint8
    assert (image[:, :16] == [255, 0, 0]).all() and (image[:, 16:] == 0).all()
    assert found.frame["label"].tolist() == ["cat", "truck", "automobile"]
    assert found.frame["part"].tolist() == ["train", "test", "test"]
    assert found.frame["file"].tolist() == ["c.png", "a.png", "b.png"]


def test_pickles_are_not_opened_unless_their_digest_was_verified(tmp_path: Path) -> None:
    files = published(tmp_path, {"data_batch_1": b"never read"})
    with pytest.raises(BadInput, match="not verified"):
        problem.read(Files(files.paths))


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "it ran",)

    with pytest.raises(BadInput, match="cannot be read"):
        problem.read(published(tmp_path, {"data_batch_1": pickle.dumps({"data": Call()})}))
    assert not (tmp_path / "it ran").exists()


def test_an_archive_of_pictures_is_read_as_well_and_meets_what_is_expected(examples: Examples) -> None:
    assert examples.features["image"].shape == (320, 32, 32, 3)
    assert examples.frame.groupby("part")["label"].value_counts().unstack().to_numpy().tolist() == [[8] * 10, [24] * 10]
    require(validate(examples.frame, problem.expectations(), name="cifar10"))


@pytest.mark.parametrize("defect", ["blank", "scaled to 0-1", "a class missing", "copies in both parts", "two labels"])
def test_the_checks_catch(examples: Examples, defect: str) -> None:
    from problems.outline.images import LabelledImages

    images, labels = examples.features["image"].copy(), examples.target.copy()
    is_test = (examples.frame["part"] == "test").to_numpy()
    if defect == "blank":
        images[:5] = np.arange(5)[:, None, None, None]
    elif defect == "scaled to 0-1":
        images = (images > 127).astype(np.uint8)
    elif defect == "a class missing":
        images, labels, is_test = images[labels != 9], labels[labels != 9], is_test[labels != 9]
    elif defect == "copies in both parts":
        images[np.flatnonzero(is_test)[0]] = images[np.flatnonzero(~is_test & (labels == labels[is_test][0]))[0]]
    else:
        images[0] = images[np.flatnonzero(~is_test & (labels != labels[0]))[0]]
    parts = np.where(is_test, "test", "train").tolist()
    frame = LabelledImages(images, labels, parts, [str(number) for number in range(len(labels))]).describe(CLASSES)
    with pytest.raises(ValidationFailed):
        require(validate(frame, problem.expectations(), name="cifar10"))


def build(variant: str, examples: Examples) -> keras.Model:
    keras.utils.set_random_seed(0)
    hyperparameters = problem.complete(variant, {"filters": 4})
    model = problem.build(hyperparameters, examples)
    problem.objective.compile(model, hyperparameters)
    return model


def test_augmentation_and_dropout_are_at_work_in_training_only(examples: Examples) -> None:
    images = {"image": examples.features["image"][:4]}
    model = build("augmented", examples)
    np.testing.assert_array_equal(model(images, training=False), model(images, training=False))
    assert not np.array_equal(model(images, training=True), model(images, training=True))
    plain = build("plain", examples)
    assert not [layer for layer in plain.layers if type(layer).__name__.startswith(("Random", "Dropout"))]


class Killed(BaseException):
    """Stands for the end of a process between two blocks of steps."""


def test_a_training_with_augmentation_goes_on_exactly_in_the_middle_of_an_epoch(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training._BLOCK_STEPS", 1)
    features = {"image": examples.features["image"][:1]}

    def train(stop_after: int = 0, state: Any = None, position: Any = None) -> Any:
        seen = 0
        with open_engine(build("augmented", examples), features, np.zeros(1, np.int32)) as engine:
            told = Cifar10Hyperparameters(epochs=2, batch_size=32, patience=None)
            training = Training(engine, problem.objective, examples, np.arange(96), np.arange(96, 120), told, seed=1)
            if state:
                training.go_to(Position.from_dict(position))
                engine.load_state(state)

            def count() -> None:
                nonlocal seen
                seen += 1
                if seen == stop_after:
                    raise Killed(engine.state(), training.position.to_dict())

            training.run(count)
            return weights_digest(engine.model), training.position.history

    expected = train()
    with pytest.raises(Killed) as killed:
        train(stop_after=5)
    assert train(0, *killed.value.args) == expected
