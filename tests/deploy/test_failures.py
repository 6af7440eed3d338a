"""Whatever fails, and wherever: no file is left, and an old one stays as it was."""

import errno
import os
from itertools import cycle
from pathlib import Path

import pytest
from deploy.nets import small
from larq_nobn.deploy import ConversionError, VerificationError, _convert, convert

pytestmark = pytest.mark.convert

STAGES = (
    "normalized",
    "check_model",
    "prepare",
    "to_flatbuffer",
    "read",
    "audit_graphs",
    "Runner",
    "verify_prepared",
    "verify_file",
)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(params=[None, "old"])
def path(request, tmp_path):
    """Where a file goes; at the end there must be what was there before."""
    file = tmp_path / "m.tflite"
    if request.param:
        file.write_text(request.param)
    yield file
    found = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert found == ({file.name: request.param} if request.param else {})


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize(
    "stage, path", [*zip(STAGES, cycle([None, "old"]))], indirect=["path"]
)
def test_a_stage_that_fails(stage, model, path, monkeypatch):
    monkeypatch.setattr(_convert, stage, failing(ConversionError("no")))
    with pytest.raises(ConversionError, match="^no$"):
        convert(model, path)


@pytest.mark.parametrize("stage", ["prepare", "verify_file"])
def test_a_stage_that_is_interrupted(stage, model, path, monkeypatch):
    monkeypatch.setattr(_convert, stage, failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        convert(model, path)


def test_equality_with_the_given_model_does_not_depend_on_verify(
    model, path, monkeypatch
):
    def wrong(given, in_float):
        prepared = right(given)
        bias = prepared.get_layer("head").bias
        bias.assign(bias + 1e-3)
        return prepared

    right = _convert.prepare
    monkeypatch.setattr(_convert, "prepare", wrong)
    with pytest.raises(VerificationError, match=r"8 of 8 .* tolerance=1e-05"):
        convert(model, path, verify=False, tolerance=1.0)


@pytest.mark.parametrize("of, method", [(Path, "write_bytes"), (os, "open")])
def test_a_disk_that_is_full(of, method, model, path, monkeypatch):
    usual, full = getattr(of, method), failing(FULL)

    def written(where, *arguments):
        ours = Path(where).name.startswith(".partial-")
        return (full if ours else usual)(where, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(of, method, written)
        with pytest.raises(OSError, match="cannot be written: No space left"):
            convert(model, path, verify=False)


def test_a_file_that_cannot_be_moved_into_place(model, path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(FULL))
    with pytest.raises(OSError, match="cannot be written: No space left"):
        convert(model, path, verify=False)
