"""Photos: which of a thousand things is on a photo?  (multiclass, pretrained, images)

Source    ImageNet's 1,000 classes (Russakovsky et al. 2015); weights of Keras' ResNet50 (He et al. 2016) and
          MobileNetV2 (Sandler et al. 2018), learnt from its 1.28 million photos. 50 labelled photos prove them here
Book      none for these photos; DLWP 2nd ed. §8.3 begins with such a network. Keras states for ImageNet's 50,000
          validation photos: ResNet50 0.749, and 0.921 among the likeliest five; MobileNetV2 0.713 and 0.901
Measured  mobilenet on 50 labelled photos: 0.86 (95 % interval 0.76 to 0.94), among the likeliest five 0.98; no seed
          plays a part. 55 s to load, prove, save and export; 42 to 48 s for 1,000 photos of a folder, with 1.1 GB
          whatever their number; 2 CPU cores, for the folder in use by others too, 2026-11-21,
          `modelkeep train photos --variant mobilenet` and `modelkeep predict photos --input FOLDER`.
          Its weights have 8 bits: the likeliest class of all 50 is that of the quantised original. resnet50 was not
          measured, its weights were not at hand
Caution   a sample of one photo for each of 50 classes shows that weights and pictures fit together, and no more: one
          photo is two points, and the networks may have learnt from these very photos. What is not among the classes
          is called something else. Photos of people are labelled by what is around them, and ImageNet's are mostly
          from North America and Western Europe
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from problems.outline import (
    Above,
    BeatsBaseline,
    Examples,
    Files,
    Hyperparameters,
    Multiclass,
    Pretrained,
    Problem,
    Source,
    TestOnly,
)
from problems.outline.images import decode_image, photo_rows, picture_inputs
from problems.outline.raw import BadInput, read_archive

if TYPE_CHECKING:
    import keras
    import numpy as np
    from great_expectations.expectations import Expectation

SIZE = (224, 224)
NUM_CLASSES = 1000
WORDNET_ID = re.compile(r"n\d{8}")
MAX_FILES = 5_000
MAX_BYTES = 2 << 30
MEAN_PIXEL = (123.68, 116.779, 103.939)  # red, green and blue of ImageNet's photos, which ResNet50's are less by

PHOTOS = Source(
    name="photos_one_per_class_sample.zip",
    url="https://github.com/EliSchwartz/imagenet-sample-images",  # has a photo of each class; the zip holds 50 of them
    sha256="18a490446e4993e3978d7db29055147d1cd373cca3030ea2e89da6410fb36d64",
    size=4_845_722,
    licence="the photographers' own; ImageNet gives access for research and education",
)
CLASSES = Source(
    name="imagenet_class_index.json",
    url="https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    sha256="a1e7a966a1f601d39e4b43e119b3e7dd4a2ad3ea08cf69847cbaf021013767bc",
    size=35_363,
    licence="Apache-2.0",
)
WEIGHTS = {
    "resnet50": Source(
        name="resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        sha256="7011d39ea4f61f4ddb8da99c4addf3fae4209bfda7828adb4698b16283258fbe",
        size=102_967_424,
        licence="Apache-2.0",
    ),
    # Keras' MobileNetV2 with weights of 8 bits. Whether the address has these very bytes is for the SHA-256 to say.
    "mobilenet": Source(
        name="mobilenet_v2_1.0_224_quant.tflite",
        url="https://raw.githubusercontent.com/google-coral/test_data/master/tf2_mobilenet_v2_1.0_224_ptq.tflite",
        sha256="3cb2d53f5b57aea6696724c803db309de8db81270c06f9b05947da711cd7da01",
        size=3_994_168,
        licence="Apache-2.0",
    ),
}


class PhotosHyperparameters(Hyperparameters):
    """Nothing is fitted, so those of training change nothing."""

    network: Literal["resnet50", "mobilenet"] = "resnet50"
    epochs: int = 1


def decode(data: bytes, name: str) -> np.ndarray:
    """The middle square of a photo, uint8 (224, 224, 3). Raises ImageUnreadable."""
    return decode_image(data, SIZE, name=name)


def read(files: Files) -> Examples:
    """Photos as uint8 (n, 224, 224, 3) and the numbers of their classes as int16 (n,).

    A photo's class is the WordNet id in its path, as in n01582220_magpie.JPEG or n01582220/1.jpg. Photos without one
    are left out: nothing can be proved with them. Raises BadInput.
    """
    import numpy as np
    import pandas as pd

    numbers, classes = read_classes(files[CLASSES.name])
    path = files[PHOTOS.name]
    names, images = [], []
    for name, data in read_archive(path, max_bytes=MAX_BYTES, max_files=MAX_FILES):
        if _wordnet_id(name) in numbers:
            names.append(name)
            images.append(decode(data, name))
    if not images:
        raise BadInput(
            "No photo of an archive is named by its class.",
            where=str(path),
            expected="WordNet ids of ImageNet's classes in the paths, as in n01582220_magpie.JPEG",
            next_step="name the photos so; without labels, `modelkeep predict photos --input FOLDER` scores them",
        )
    pixels = np.stack(images)
    ids = pd.Series([_wordnet_id(name) for name in names], dtype="str")
    target = ids.map(numbers).to_numpy(np.int16)
    labels = pd.Series([classes[number] for number in target], dtype="str")
    inputs = picture_inputs(pixels)
    frame = inputs.frame.assign(file=names, wordnet_id=ids, label=labels)
    return Examples(inputs.features, target, frame, classes)


def _wordnet_id(name: str) -> str:
    found = WORDNET_ID.search(name)
    return found.group() if found else ""


def read_classes(path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Of Keras' class index: WordNet id → number, and a readable name for each number, two of which never agree."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    ids, names = zip(*(listed[str(number)] for number in range(NUM_CLASSES)), strict=True)
    counts = Counter(names)
    readable = [name.replace("_", " ") for name in names]
    told = [
        f"{text} ({one})" if counts[name] > 1 else text for one, name, text in zip(ids, names, readable, strict=True)
    ]
    return {one: number for number, one in enumerate(ids)}, tuple(told)


def expectations() -> list[Expectation]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=10, max_value=MAX_FILES),
        gxe.ExpectColumnValuesToMatchRegex(column="wordnet_id", regex=rf"^{WORDNET_ID.pattern}$"),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        # A photo that is there twice counts twice; under two labels one of them is wrong.
        gxe.ExpectColumnValuesToBeUnique(column="digest"),
        # One colour all over is a photo that was lost on the way.
        gxe.ExpectColumnValuesToBeBetween(column="std", min_value=8),
        gxe.ExpectColumnValuesToBeBetween(column="mean", min_value=10, max_value=250),
    ]


# --- networks and their weights ------------------------------------------------------------------------------------


def build(hyperparameters: PhotosHyperparameters, train: Examples) -> keras.Model:
    """The network as Keras publishes it; pixels become what it learnt from inside the model. Nothing is trainable."""
    import keras
    from keras import layers, ops

    image = keras.Input((*SIZE, 3), name="image", dtype="uint8")
    if hyperparameters.network == "resnet50":
        network = keras.applications.ResNet50(weights=None)
        centred = layers.Rescaling(1.0, offset=[-mean for mean in MEAN_PIXEL])(image)
        pixels = ops.flip(centred, axis=-1)  # it learnt from blue, green, red
    else:
        network = keras.applications.MobileNetV2(weights=None)
        pixels = layers.Rescaling(1 / 127.5, offset=-127 / 127.5)(image)  # as the file of weights says
    network.trainable = False
    return keras.Model({"image": image}, network(pixels))


def choose_weights(hyperparameters: PhotosHyperparameters) -> Source:
    return WEIGHTS[hyperparameters.network]


def load_weights(model: keras.Model, path: Path) -> None:
    """Put Keras' own .h5, or what a quantised .tflite holds, into the model's network. Raises BadInput."""
    network = model.layers[-1]
    try:
        if path.suffix == ".tflite":
            _put_folded_weights(network, read_quantised_weights(path))
        else:
            network.load_weights(path)
    except Exception as fault:  # Both formats' readers raise nearly every kind of error on a file that is another.
        raise BadInput(
            f"The weights in {path.name} do not fit the network.",
            expected=f"those of {network.name}",
            received=str(fault).partition("\n")[0] or type(fault).__name__,
            next_step="get the file again",
        ) from fault


def read_quantised_weights(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each convolution and dense layer of a .tflite file, in order, as float32.

    A number is the stored one times the scale of its output channel (Jacob et al. 2018, arXiv 1712.05877); kernels
    are (outputs, height, width, inputs), of depthwise convolutions (1, height, width, channels).
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    with_weights = (
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    )
    operators = [one for one in graph.operators if model.operatorCodes[one.opcodeIndex].builtinCode in with_weights]
    tensors = [[graph.tensors[number] for number in one.inputs[1:]] for one in operators]
    return [
        (_dequantise(kernel, model.buffers[kernel.buffer].data), _dequantise(bias, model.buffers[bias.buffer].data))
        for kernel, bias in tensors
    ]


def _dequantise(tensor: Any, data: np.ndarray) -> np.ndarray:
    """float32 in the tensor's shape; whole numbers are symmetric around 0, as the format asks of weights."""
    import numpy as np

    scales = np.asarray(tensor.quantization.scale, np.float32)
    along = [1] * len(tensor.shape)
    along[tensor.quantization.quantizedDimension] = len(scales)
    numbers = np.asarray(data, np.uint8).view(np.int8 if data.size == np.prod(tensor.shape) else np.int32)
    return numbers.reshape(tensor.shape).astype(np.float32) * scales.reshape(along)


def _put_folded_weights(network: keras.Model, weights: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Weights into which batch normalisation was folded: each normalisation then only adds the bias of the
    convolution before it. Raises ValueError where numbers or shapes of layers differ."""
    import keras
    import numpy as np

    waiting, bias = iter(weights), np.empty(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            still = np.ones_like(bias)
            layer.set_weights([still, bias, 0 * still, still - layer.epsilon])
        elif layer.weights:
            kernel, bias = next(waiting, (np.empty(0), np.empty(0)))
            if isinstance(layer, keras.layers.Dense):
                layer.set_weights([kernel.T, bias])
            else:
                layer.set_weights([np.moveaxis(kernel, 0, -1)])
    if next(waiting, None) is not None:
        raise ValueError(f"the file holds more layers than {network.name} has")


problem = Problem(
    name="photos",
    objective=Multiclass(classes=tuple(map(str, range(NUM_CLASSES)))),  # their names come with the photos
    sources=(PHOTOS, CLASSES),
    read=read,
    expectations=expectations,
    split=TestOnly(),
    build=build,
    hyperparameters=PhotosHyperparameters,
    acceptance=(Above("accuracy", 0.7), Above("top_5_accuracy", 0.85), BeatsBaseline()),
    variants={"resnet50": {"network": "resnet50"}, "mobilenet": {"network": "mobilenet"}},
    pretrained=Pretrained(source=choose_weights, load=load_weights),
    rows=photo_rows(SIZE, (), decode),  # nothing is learnt here
)
