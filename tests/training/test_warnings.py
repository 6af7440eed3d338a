"""Who is told that the processor imitates 16-bit floats, and who is not."""

import logging

import pytest
from larq_nobn import training
from larq_nobn.training import _settings, _trainer

OLD = "processor : 0\nflags\t\t: fpu sse avx2 avx512f avx512_vnni f16c\nbugs : none\n"
BF16 = OLD.replace("f16c", "avx512_bf16 f16c")
FP16 = OLD.replace("f16c", "f16c avx512_fp16")
TILES = OLD.replace("f16c", "amx_bf16 amx_tile")
CONVERTING = OLD.replace("f16c", "avx_ne_convert")
ARM = "processor : 0\nFeatures : fp asimd\n"


@pytest.mark.parametrize(
    "precision, content, warned",
    [
        ("mixed_bfloat16", OLD, True),
        ("mixed_bfloat16", FP16, True),
        ("mixed_bfloat16", BF16, False),
        ("mixed_bfloat16", TILES, False),
        ("mixed_bfloat16", CONVERTING, False),
        ("mixed_float16", OLD, True),
        ("mixed_float16", BF16, True),
        ("mixed_float16", FP16, False),
        ("mixed_float16", CONVERTING, False),
        ("float32", OLD, False),
        ("mixed_bfloat16", ARM, False),
        ("mixed_bfloat16", None, False),
    ],
)
@pytest.mark.parametrize("gpus", [0, 1])
def test_who_is_warned(precision, content, warned, gpus, tmp_path, caplog, monkeypatch):
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    config = _settings.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda _: ["a GPU"] * gpus)
    caplog.set_level(logging.WARNING, logger="larq_nobn")
    _settings.warn_of_imitation(precision, file)
    assert bool(caplog.text) == (warned and not gpus)
    assert (f"precision='{precision}'" in caplog.text) == bool(caplog.text)


def test_a_run_asks_for_its_precision(tmp_path, monkeypatch):
    def asked(precision):
        raise KeyboardInterrupt(precision)

    monkeypatch.setattr(_trainer, "warn_of_imitation", asked)
    settings = training.RunSettings(dataset="digits", precision="mixed_float16")
    with pytest.raises(KeyboardInterrupt, match="mixed_float16"):
        training.train(settings, tmp_path / "run")
