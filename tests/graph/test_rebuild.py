import logging

import larq as lq
import pytest
from larq_nobn.graph import rebuild


@pytest.mark.parametrize("made_again", [False, True])
def test_a_layer_that_is_made_again_repeats_no_warning(made_again, caplog):
    # The command line, in another test, shows errors only.
    caplog.set_level(logging.WARNING, logger="larq")

    def make():
        return lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign")

    layer = make()
    assert "starved weights" in caplog.text
    caplog.clear()
    rebuild(layer) if made_again else make()
    assert ("starved weights" in caplog.text) != made_again
