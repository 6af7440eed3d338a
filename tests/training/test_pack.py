"""Trained networks as small files: what is packed is what was trained."""

import numpy as np
from click.testing import CliRunner
from larq_nobn.models import BUILDERS
from larq_nobn.models._pretrained import BITS
from larq_nobn.models._weight_names import weights_by_name
from pack import main, pack


def test_the_packed_network_computes_what_the_run_trained(tiny_run, tmp_path):
    row = pack(tiny_run.folder, tmp_path / "tiny.npz", log="results/tiny")
    settings = tiny_run.record["settings"]
    assert (row.name, row.log) == ("tiny", "results/tiny")
    assert row.accuracy == tiny_run.record["metrics"]["test_accuracy"]
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
