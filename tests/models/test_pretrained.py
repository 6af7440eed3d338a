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


# One of each other design: names of weights are a matter of the builder.
OTHERS = {row.model: row for row in pretrained() if row.model != "ReActNet18"}


@pytest.mark.parametrize("builder", OTHERS)
def test_its_builder_opens_it_by_name(builder):
    row = OTHERS[builder]
    model = BUILDERS[builder](weights=row.name)
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


def test_another_size_changes_no_weight_and_other_classes_the_head_alone(opened):
    model = ReActNet18((72, 64, 1), weights=DIGITS, classes=4)  # of another stem
    assert model.input_shape == (None, 72, 64, 1)
    assert model.output_shape == (None, 4)
    *body, _, _ = opened[0].get_weights()
    for new, old in zip(model.get_weights(), body, strict=False):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ReActNet18(weights="reactnet50"), f"'reactnet50' .*{DIGITS}"),
        (lambda: ReActNet18(weights=DIGITS, width=16), r"width=16 .*width=32"),
        (
            lambda: ReActNet18((32, 32, 3), weights=DIGITS),
            r"input_shape=\(32, 32, 3\) does .*\(8, 8, 1\), whose images have anoth",
        ),
        (lambda: ReActNet18(weights=DIGITS, alpha=0.2), r"alpha=0.2 .*alpha=0.5"),
        (lambda: ResNet20(weights=DIGITS), "is a ReActNet18, not a ResNet20"),
    ],
)
def test_what_does_not_fit_is_rejected(build, message):
    with pytest.raises(ValueError, match=message):
        build()


class _Code:
    def __reduce__(self):
        return (pytest.fail, ("code ran",))


def _copy(source, target, changes):
    """An archive in which some entries have other contents, or are not there."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            name = entry.filename.removesuffix(".npy")
            content = changes.get(name, given.read(entry))
            if content is not None:
                made.writestr(entry.filename, content)


def _array(value):
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


# Values that the metadata cannot have: of another type, or of no such network.
WRONG = [{"model": "Other"}, {"accuracy": "0.9"}, {"preprocessing": {"crop": 10**400}}]


def test_damaged_files_are_rejected_in_one_sentence(tmp_path):
    source, damaged = find_pretrained(DIGITS), tmp_path / "a.npz"
    with np.load(source) as archive:
        card = json.loads(str(archive[METADATA]))
        kernel = next(name for name in archive if name.endswith(BITS))
        bits = archive[kernel]
    texts = [*(json.dumps(card | wrong) for wrong in WRONG), "[]", "{", "[" * 100_000]
    pickled = b"\x93NUMPY\x01\x00" + pickle.dumps(_Code())
    for change in (
        *({METADATA: _array(np.array(text))} for text in texts),
        {"head/bias": pickled},
        {METADATA: None},
        {kernel: _array(bits)[:-4]},
        {kernel: _array(np.zeros((2, 2)))},
        {kernel.replace(BITS, MAGNITUDE): None},
    ):
        _copy(source, damaged, change)
        with pytest.raises(ValueError, match="is damaged or not a packed network"):
            pytest.fail(f"{change}: {open_pretrained(damaged)}")


def test_what_is_no_archive_is_torn_or_grows_is_not_read(tmp_path):
    path = tmp_path / "a.npz"
    content = bytearray(find_pretrained(DIGITS).read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(f"{METADATA}.npy")
    begin = entry.header_offset + 30 + len(entry.filename)
    begin += int.from_bytes(content[begin - len(entry.filename) - 2 :][:2], "little")
    content[begin : begin + 8] = b"\xff" * 8  # no kind of block of DEFLATE
    for other in (b"no archive", content):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="is damaged or not a packed netw") as said:
            ReActNet18(weights=path)
        assert str(said.value).count("Restore it from a copy") == 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{METADATA}.npy", bytes(1 << 27))
    with pytest.raises(ValueError, match="it would grow from"):
        ReActNet18(weights=path)
