"""Trained networks that come along, and packed ones of one's own."""

import io
import json
import pickle
import zipfile

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from larq_nobn.graph._signs import kernel_value
from larq_nobn.models import BUILDERS, ReActNet18, ResNet20, open_pretrained, pretrained
from larq_nobn.models._pretrained import (
    BITS,
    MAGNITUDE,
    METADATA,
    find_pretrained,
    packed,
    unpacked,
)

DIGITS = "reactnet18-w32-digits"


def test_rows_are_sorted_complete_and_small():
    rows = pretrained()
    names = [row.name for row in rows]
    assert DIGITS in names and names == sorted(names)
    for row in rows:
        assert row.model in BUILDERS and row.recipe in nobn.training.RECIPES
        assert 0.5 < row.accuracy < 1 and row.epochs > 0 and row.binary_macs > 0
        assert row.classes == len(row.class_names) and len(row.input_shape) == 3
        assert dict(row)["name"] == row["name"] == row.name
    assert sum(row.size_bytes for row in rows) < 10_000_000
    table = repr(rows).splitlines()
    assert len(table) < len(rows) + 6 and all(any(n in t for t in table) for n in names)


OTHERS = [row.name for row in pretrained() if row.name != DIGITS]


@pytest.mark.parametrize("name", OTHERS)
def test_its_builder_opens_it_by_name(name):
    row = next(row for row in pretrained() if row.name == name)
    model = BUILDERS[row.model](weights=name)
    assert model.input_shape[1:] == row.input_shape
    assert model.output_shape == (None, row.classes)


@pytest.fixture(scope="module")
def opened():
    return open_pretrained(DIGITS)


def test_it_is_as_its_row_says(opened):
    model, row = opened
    correct = [
        np.argmax(model(images, training=False), -1) == labels
        for images, labels in nobn.data.load("digits", "test", batch_size=355)
    ]
    assert np.mean(np.concatenate(correct)) == pytest.approx(row.accuracy, abs=5e-4)
    profile = lq.models.ModelProfile(model)
    assert profile.op_count("mac", 1) == row.binary_macs
    # Arguments that agree are allowed.
    name = DIGITS.replace("reactnet", "ReActNet")
    named = ReActNet18((8, 8, 1), 10, width=32, weights=name, name="mine")
    assert named.name == "mine"
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(x), named(x))


def test_preprocessing_is_that_of_an_evaluation(opened):
    row = opened[1]
    prepare = nobn.deploy.Preprocessing(**row.preprocessing)
    gray = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8, 1)
    (mean,), (std,) = prepare.mean, prepare.std
    np.testing.assert_allclose(
        prepare(gray)[0], (gray / 255 - mean) / std, rtol=1e-6, atol=1e-6
    )


@pytest.mark.convert
def test_every_binary_layer_has_its_binary_kernel(opened, tmp_path):
    model = opened[0]
    report = nobn.convert(model, tmp_path / "model.tflite")
    binary = [x for x in model.layers if getattr(x, "input_quantizer", None)]
    assert report.lce_bconv2d == len(binary) > 7


def test_training_continues_from_signs_with_latent_weights():
    model = ReActNet18(weights=DIGITS)
    kernel = model.get_layer("stage1_block1_conv").kernel
    latent = kernel.latent_variable.numpy()
    magnitude = np.abs(latent).max((0, 1, 2))
    np.testing.assert_allclose(np.abs(latent), np.broadcast_to(magnitude, latent.shape))
    before = kernel_value(kernel)
    np.testing.assert_array_equal(np.sign(before), np.sign(latent))
    images, labels = next(iter(nobn.data.load("digits", "train", batch_size=32)))
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(images, np.eye(10)[labels])
    assert np.any(kernel.latent_variable.numpy() != latent)


def test_images_of_another_size_change_no_weight(opened):
    model = ReActNet18((12, 16, 1), weights=DIGITS)
    assert model.input_shape == (None, 12, 16, 1)
    for new, old in zip(model.get_weights(), opened[0].get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_other_classes_have_a_new_head(opened):
    model, given = ReActNet18(weights=DIGITS, classes=4), opened[0]
    assert model.output_shape == (None, 4)
    for layer in model.layers[:-1]:
        for new, old in zip(
            layer.get_weights(), given.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ReActNet18(weights="reactnet50"), f"'reactnet50' .*{DIGITS}"),
        (lambda: ReActNet18(weights=""), DIGITS),
        (lambda: ReActNet18(weights=DIGITS, width=16), r"width=16 .*width=32"),
        (
            lambda: ReActNet18((32, 32, 3), weights=DIGITS),
            r"input_shape=\(32, 32, 3\) does .*\(8, 8, 1\): its 'stem.* Leave input_",
        ),
        (lambda: ReActNet18(weights=DIGITS, alpha=0.2), r"alpha=0.2 .*alpha=0.5"),
        (lambda: ResNet20(weights=DIGITS), "is a ReActNet18, not a ResNet20"),
    ],
)
def test_what_does_not_fit_is_rejected(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_bits_of_any_number_of_weights_come_back():
    for shape in [(3, 3, 5, 7), (1, 1, 1, 2), (13, 4), (8, 1)]:
        signs = np.random.default_rng(1).choice([-1.0, 1.0], shape)
        magnitude = np.arange(1, shape[-1] + 1, dtype=np.float32)
        found = unpacked(packed(signs), magnitude, shape)
        np.testing.assert_array_equal(found, signs * magnitude)


class _Code:
    def __reduce__(self):
        return (pytest.fail, ("code ran",))


def _copy(source, target, change):
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            content = change(entry.filename, given.read(entry))
            if content is not None:
                made.writestr(entry.filename, content)


def _array(value):
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def _replaced(name, content):
    """Another entry of a name, or none."""
    return lambda entry, given: content if entry == f"{name}.npy" else given


def _metadata(text):
    return _replaced(METADATA, _array(np.array(text)))


# Values that the metadata cannot have, by name; one that is of another type each.
WRONG = {
    "model": ("Other", []),
    "accuracy": ("0.9",),
    "settings": (1,),
    "classes": (True, 9, 10**30),
    "class_names": ([1, 2], "ab"),
    "input_shape": (None, [8, 9, 1]),
    "preprocessing": ([], {}),
    "arguments": ([], {"other": 1}, {"weights": DIGITS}),
}
WRONG_STEPS = {
    "mean": (None, "x", ["x"], [True]),
    "crop": (None, True, 10**400),
    "size": ("x", ["8", "8"]),
}
WRONG_ARGUMENTS = {"width": (-1, "x"), "blocks": (None,)}


def _changes(card):
    """What the metadata is changed by."""
    steps, arguments = card["preprocessing"], card["arguments"]
    for name, values in WRONG.items():
        yield from ({name: value} for value in values)
    for name, values in WRONG_STEPS.items():
        yield from ({"preprocessing": {**steps, name: value}} for value in values)
    for name, values in WRONG_ARGUMENTS.items():
        yield from ({"arguments": {**arguments, name: value}} for value in values)
    yield {"classes": 9, "class_names": [*map(str, range(9))]}


def _damages(path):
    """What is done to each entry of the archive at a path."""
    with np.load(path) as archive:
        card = json.loads(str(archive[METADATA]))
    yield from (_metadata(json.dumps(card | change)) for change in _changes(card))
    yield from map(_metadata, ("[]", "null", "{", "[" * 100_000))
    yield _metadata(json.dumps({"format": "other", "version": 1}))
    pickled = b"\x93NUMPY\x01\x00" + pickle.dumps(_Code())
    yield from (_replaced("head/bias", x) for x in (pickled, _array(np.full(10, "x"))))
    yield from (_replaced(name, None) for name in ("head/kernel", METADATA))
    bits, magnitude = f"{BITS}.npy", f"{MAGNITUDE}.npy"
    yield lambda name, given: given[:-4] if name.endswith(bits) else given
    yield lambda name, given: None if name.endswith(magnitude) else given
    zeros = _array(np.zeros((2, 2)))
    yield lambda name, given: zeros if name.endswith(bits) else given


def test_damaged_files_are_rejected_in_one_sentence(tmp_path):
    source, damaged = find_pretrained(DIGITS), tmp_path / "a.npz"
    for number, change in enumerate(_damages(source)):
        _copy(source, damaged, change)
        with pytest.raises(ValueError, match="is damaged or not a packed network"):
            pytest.fail(f"{number}: {open_pretrained(damaged)}")


def test_a_torn_stream_is_rejected_in_one_sentence(tmp_path):
    content = bytearray(find_pretrained(DIGITS).read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(f"{METADATA}.npy")
    begin = entry.header_offset + 30 + len(entry.filename)
    begin += int.from_bytes(content[begin - len(entry.filename) - 2 :][:2], "little")
    content[begin : begin + 8] = b"\xff" * 8  # no kind of block of DEFLATE
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or not a packed network"):
        open_pretrained(tmp_path / "a.npz")


def test_what_is_no_archive_or_grows_is_not_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is damaged or not a packed network") as said:
        ReActNet18(weights=tmp_path / "a.npz")
    assert str(said.value).count("Restore it from a copy") == 1
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{METADATA}.npy", bytes(1 << 27))
    with pytest.raises(ValueError, match="it would grow from"):
        ReActNet18(weights=tmp_path / "a.npz")
