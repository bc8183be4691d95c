"""Photos: labels from names, weights of both networks, and what the checks catch."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from problems.outline.problem import Examples, Files
from problems.outline.raw import BadInput
from problems.photos import CLASSES, PHOTOS, WEIGHTS, load_weights, problem, read_quantised_weights
from tasks.engines import weights_digest
from validation.gate import ValidationFailed, require, validate

SAMPLE_SETTINGS = {"network": "mobilenet"}
IDS = [f"n{number:08d}" for number in range(1000)]


def photo(seed: int, size: tuple[int, int] = (40, 30), form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype="uint8")
    data = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(data, form)
    return data.getvalue()


def write_photos(path: Path, photos: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in photos.items():
            archive.writestr(name, data)
    return path


def write_classes(path: Path) -> Path:
    """ImageNet's index in form: two of its names are alike."""
    names = ["crane", "red_fox", "crane", *(f"thing_{number}" for number in range(3, 1000))]
    path.write_text(json.dumps({str(number): pair for number, pair in enumerate(zip(IDS, names, strict=True))}))
    return path


def make_mirror(folder: Path) -> Path:
    """Twelve photos, a class index and random weights, named as stand-ins for the published files."""
    mirror = folder / "mirror"
    mirror.mkdir()
    keras.applications.MobileNetV2(weights=None).save_weights(mirror / "random.weights.h5")
    files = {
        PHOTOS.name: write_photos(mirror / "photos.zip", {f"{IDS[seed]}_x.JPEG": photo(seed) for seed in range(12)}),
        CLASSES.name: write_classes(mirror / "classes.json"),
        WEIGHTS["mobilenet"].name: mirror / "random.weights.h5",
    }
    entries = [
        f'["{name}"]\nfile = "{path.name}"\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\nnote = "random"'
        for name, path in files.items()
    ]
    (mirror / "mirror.toml").write_text("\n".join(entries))
    return mirror


ReadPhotos = Callable[[Mapping[str, bytes]], Examples]


@pytest.fixture
def read(tmp_path: Path) -> ReadPhotos:
    def read(photos: Mapping[str, bytes]) -> Examples:
        paths = {
            PHOTOS.name: write_photos(tmp_path / "photos.zip", photos),
            CLASSES.name: write_classes(tmp_path / "classes.json"),
        }
        return problem.read(Files(paths))

    return read


def labelled(count: int) -> dict[str, bytes]:
    return {f"{IDS[seed]}_x.JPEG": photo(seed) for seed in range(count)}


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_photo_is_labelled_by_the_wordnet_id_in_its_path_and_others_are_left_out(read: ReadPhotos) -> None:
    examples = read(
        {
            "README.md": b"no photo",
            f"{IDS[1]}_red_fox.JPEG": photo(1),
            f"val/{IDS[7]}/1.png": photo(2, form="PNG"),
            "elephant.jpg": photo(3),
            "n99999999_unheard_of.jpg": photo(4),
        }
    )
    image = examples.features["image"]
    assert image.dtype == np.uint8 and image.shape == (2, 224, 224, 3)
    assert examples.target.tolist() == [1, 7]
    assert examples.frame["label"].tolist() == ["red fox", "thing 7"]


def test_classes_of_the_same_name_are_told_apart(read: ReadPhotos) -> None:
    classes = read(labelled(1)).classes
    assert classes[:3] == (f"crane ({IDS[0]})", "red fox", f"crane ({IDS[2]})")
    assert len(set(classes)) == 1000
    problem.objective.named(classes)


def test_without_a_single_label_it_is_said_how_photos_are_labelled(read: ReadPhotos) -> None:
    with pytest.raises(BadInput, match="named by its class") as refused:
        read({"elephant.jpg": photo(1)})
    assert "n01582220_magpie.JPEG" in str(refused.value)


def test_a_labelled_photo_that_is_cut_short_is_named(read: ReadPhotos) -> None:
    with pytest.raises(BadInput, match=IDS[3]):
        read({**labelled(3), f"{IDS[3]}_cut.JPEG": photo(3, (400, 300))[:900]})


def test_photos_that_are_whole_meet_what_is_expected(read: ReadPhotos) -> None:
    require(validate(read(labelled(12)).frame, problem.expectations(), name="photos"))


@pytest.mark.parametrize("defect", ["a photo twice", "one colour", "too few"])
def test_the_checks_catch(defect: str, read: ReadPhotos) -> None:
    photos = labelled(5 if defect == "too few" else 12)
    if defect == "a photo twice":
        photos[f"{IDS[20]}_other_label.JPEG"] = photos[f"{IDS[3]}_x.JPEG"]
    elif defect == "one colour":
        data = io.BytesIO()
        Image.new("RGB", (40, 40), "grey").save(data, "PNG")
        photos[f"{IDS[20]}_grey.png"] = data.getvalue()
    with pytest.raises(ValidationFailed):
        require(validate(read(photos).frame, problem.expectations(), name="photos"))


# --- networks and their weights ------------------------------------------------------------------------------------


def small_network() -> keras.Model:
    """Of the layers that MobileNetV2 has, with the bias of a convolution in the normalisation behind it."""
    image = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    hidden = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)(hidden)
    hidden = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(hidden))


def around(network: keras.Model) -> keras.Model:
    image = keras.Input((16, 16, 3))
    return keras.Model(image, network(image))


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, np.ndarray, Path]:
    """A network with random weights, images for it, and the file that TensorFlow makes of it with 8 bits."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    network = small_network()
    for layer in network.layers:
        shapes = [weight.shape for weight in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            ranges = ((0.5, 1.5), (-0.5, 0.5), (-0.2, 0.2), (0.5, 2.0))
            layer.set_weights([random.uniform(*ends, shape) for ends, shape in zip(ranges, shapes, strict=True)])
        elif shapes:
            layer.set_weights([random.normal(0, 0.3, shape) for shape in shapes])
    images = random.uniform(-1, 1, (32, 16, 16, 3)).astype("float32")
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path = tmp_path_factory.mktemp("weights") / "small.tflite"
    path.write_bytes(converter.convert())
    return network, images, path


def test_quantised_weights_are_within_half_a_step_of_what_they_were(
    quantised: tuple[keras.Model, np.ndarray, Path],
) -> None:
    network, _, path = quantised
    (_, _), (_, _), (kernel, bias) = read_quantised_weights(path)
    true_kernel, true_bias = network.layers[-1].get_weights()
    steps = np.abs(true_kernel).max() / 127
    assert np.abs(kernel.T - true_kernel).max() <= 0.51 * steps
    assert bias == pytest.approx(true_bias, abs=1e-3)


def test_a_network_with_quantised_weights_answers_as_the_one_that_was_quantised(
    quantised: tuple[keras.Model, np.ndarray, Path],
) -> None:
    network, images, path = quantised
    again = around(small_network())
    assert np.abs(np.asarray(again(images)) - np.asarray(network(images))).max() > 0.02
    load_weights(again, path)
    assert np.abs(np.asarray(again(images)) - np.asarray(network(images))).max() < 0.02


@pytest.mark.parametrize("wrong", ["of another network", "no weights at all"])
def test_a_file_of_weights_that_does_not_fit_is_refused(
    wrong: str, quantised: tuple[keras.Model, np.ndarray, Path], tmp_path: Path
) -> None:
    path = quantised[2]
    if wrong == "no weights at all":
        path = tmp_path / "page.tflite"
        path.write_text("<html>404</html>")
    image = keras.Input((16, 16, 3))
    other = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(BadInput, match="do not fit"):
        load_weights(around(other), path)


def test_resnet50_takes_the_file_that_keras_publishes_and_sees_what_it_was_trained_on(tmp_path: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    settings = problem.complete("resnet50", {})
    nothing = Examples({}, np.zeros(0), pd.DataFrame())
    model = problem.build(settings, nothing)
    with h5py.File(tmp_path / "resnet50.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model.layers[-1])
    again = problem.build(settings, nothing)
    assert weights_digest(again) != weights_digest(model)
    load_weights(again, tmp_path / "resnet50.h5")
    assert weights_digest(again) == weights_digest(model)
    assert not again.trainable_variables
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype="uint8")
    prepared = keras.applications.resnet.preprocess_input(image.astype("float32"))
    assert np.asarray(again({"image": image})) == pytest.approx(np.asarray(model.layers[-1](prepared)), abs=1e-6)


@pytest.mark.data
def test_mobilenet_answers_as_its_quantised_original_does(tmp_path: Path) -> None:
    import tensorflow as tf

    mirror = Path(os.environ["MODELKEEP_MIRROR"])
    weights = mirror / WEIGHTS["mobilenet"].name
    examples = problem.read(Files({source.name: mirror / source.name for source in problem.sources}))
    images = examples.features["image"]
    model = problem.build(problem.complete("mobilenet", {}), examples)
    load_weights(model, weights)
    ours = np.concatenate([model.predict_on_batch({"image": images[start : start + 10]}) for start in range(0, 50, 10)])
    original = tf.lite.Interpreter(str(weights))
    original.allocate_tensors()
    theirs = []
    for image in images:
        original.set_tensor(original.get_input_details()[0]["index"], image[None])
        original.invoke()
        theirs.append(original.get_tensor(original.get_output_details()[0]["index"])[0] / 256)
    assert (ours.argmax(axis=1) == np.argmax(theirs, axis=1)).mean() >= 0.96
    assert np.abs(ours - theirs).mean() < 0.001
    assert (ours.argmax(axis=1) == examples.target).mean() >= 0.8
