"""Trained networks as small files: what is packed is what was trained."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from larq_nobn import training
from click.testing import CliRunner
from larq_nobn.graph._signs import kernel_value
from larq_nobn.models import BUILDERS
from larq_nobn.models._pretrained import BITS, MAGNITUDE, unpacked
from larq_nobn.models._weights import weights_by_name
from pack import _entries, main, pack


def test_the_packed_network_computes_what_the_run_trained(tiny_run, tmp_path):
    row = pack(tiny_run.folder, tmp_path / "tiny.npz", log="results/tiny")
    settings = tiny_run.record["settings"]
    assert (row.name, row.log) == ("tiny", "results/tiny")
    assert row.accuracy == tiny_run.record["metrics"]["val_accuracy"]
    assert (row.model, row.seed) == (settings["model"], settings["seed"])
    model = BUILDERS[row.model](weights=tmp_path / "tiny.npz")
    x = np.random.default_rng(0).normal(size=(64, *row.input_shape)).astype(np.float32)
    # Gains make up for the scale of the new latent weights up to rounding.
    np.testing.assert_allclose(model(x), tiny_run.model(x), rtol=1e-5, atol=1e-6)


def test_binary_weights_take_a_bit_each(tiny_run, tmp_path):
    path = tmp_path / "tiny.npz"
    done = CliRunner().invoke(main, [str(tiny_run.folder), str(path)])
    assert (done.exit_code, done.output.startswith(f"{path}: tiny, ")) == (0, True)
    with np.load(path) as archive:
        bits = {n: archive[n] for n in archive.files if n.endswith(BITS)}
    kernels = weights_by_name(tiny_run.model)
    assert bits
    for name, value in bits.items():
        shape = kernels[name.removesuffix(BITS)].shape
        assert value.nbytes == -(-int(np.prod(shape[:-1])) // 8) * shape[-1]


def opened_again(trained, build):
    """What a builder makes of the packed weights of a network, without a file."""
    stored, network = dict(_entries(trained, build())), build()
    for name, weight in weights_by_name(network).items():
        value = stored.get(name)
        if name + BITS in stored:
            magnitude = stored[name + MAGNITUDE]
            value = unpacked(stored[name + BITS], magnitude, weight.shape)
        weight.assign(value)
    return network, stored


def assert_same_kernels(found, wanted):
    for ours, theirs in zip(found.weights, wanted.weights, strict=True):
        if hasattr(ours, "latent_variable"):
            np.testing.assert_allclose(
                kernel_value(ours), kernel_value(theirs), rtol=1e-5, err_msg=ours.name
            )


@pytest.mark.parametrize(
    "builder, normalization, options",
    [
        ("ReActNet18", "nobn", {"width": 8, "blocks": (1, 1)}),
        ("VGGSmall", "none", {"width": 16}),
        ("QuickNetSmall", "batch_norm", {"blocks": (1, 1)}),
    ],
)
def test_kernels_and_all_other_weights_stay(builder, normalization, options):
    """Also where signs alone have another standard deviation, or gains are below 0."""
    build = partial(
        BUILDERS[builder], (32, 32, 3), 10, normalization=normalization, **options
    )
    trained, rng = build(), np.random.default_rng(0)
    for name, weight in weights_by_name(trained).items():
        if name.endswith(("/gain", "/bias", "/shift")):
            weight.assign(rng.normal(0.1, 1.0, weight.shape))
    network, stored = opened_again(trained, build)
    assert any(name.endswith(BITS) for name in stored)
    assert_same_kernels(network, trained)
    for name, weight in weights_by_name(trained).items():
        if name in stored and not name.endswith("/gain"):
            np.testing.assert_array_equal(stored[name], weight.numpy(), name)


def test_a_filter_without_variance_keeps_its_value():
    options = {"variance_preserving": False, "balanced": False, "blocks": (1,)}
    build = partial(BUILDERS["ReActNet18"], (8, 8, 1), 10, width=8, **options)
    trained = build()
    latent = trained.get_layer("stage1_block1_conv").kernel.latent_variable
    latent.assign(np.where(np.arange(8) == 3, 0.0, latent.numpy()))
    network, stored = opened_again(trained, build)
    assert "stage1_block1_conv/kernel" in stored
    assert_same_kernels(network, trained)


@pytest.mark.parametrize("changes", [{"model": "FloatResNet"}, {"kernel": "recu"}])
def test_networks_of_no_builder_are_rejected(tiny_run, tmp_path, monkeypatch, changes):
    ((name, value),) = changes.items()
    record = {**tiny_run.record, "settings": {**tiny_run.record["settings"], **changes}}
    changed = dataclasses.replace(tiny_run, record=record)
    monkeypatch.setattr(training, "load_run", lambda run: changed)
    with pytest.raises(ValueError, match=f"{name}='{value}'"):
        pack(tiny_run.folder, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
