"""Every design as a file for LiteRT, of the smallest images that it takes.

For Larq Compute Engine each is converted where its operations are counted.
"""

from collections import Counter
from dataclasses import replace

import pytest
from ai_edge_litert.interpreter import Interpreter
from deploy.nets import scrambled
from larq_nobn.deploy import convert, fake_quantize
from larq_nobn.deploy.lite._file import read
from larq_nobn.models import BinaryDenseNet28, MeliusNetA
from models.networks import NETWORKS

DESIGNS = {
    network.builder.__name__: replace(
        network, shape=(network.smallest, network.smallest, 1)
    )
    for network in NETWORKS
    if network.own
}
# In int8 delegates take turns where groups of channels meet.
IN_TURNS = (BinaryDenseNet28, MeliusNetA)


def delegated(content):
    """The operations that LiteRT's own interpreter runs."""
    run = Interpreter(model_content=content)
    run.allocate_tensors()
    return Counter(op["op_name"] for op in run._get_ops_details())


# In float, designs whose shortcuts, pools or groups of channels are their own.
KINDS = [(name, True) for name in DESIGNS]
KINDS += [(name, False) for name in ("ReActNetA", "VGGSmall", "BinaryDenseNet28")]


@pytest.mark.convert
@pytest.mark.parametrize("name, int8", KINDS)
def test_every_design_is_converted_and_computes_the_same(name, int8, tmp_path):
    network, path = DESIGNS[name], tmp_path / "m.tflite"
    model, x = scrambled(network()), network.images(2)
    model = fake_quantize(model, x, verify=False) if int8 else model
    report = convert(model, path, data=x, int8=int8, runtime="litert")
    assert report.binary_layers == network.binary
    assert report.in_float == [] and report.verify["unexplained"] == 0
    content = path.read_bytes()
    ops = read(content, "file")[0].operations
    assert not [op for op in ops if op.op.startswith("Lce")]
    assert {op.kind for op in ops} <= {"int8" if int8 else "float", "shape"}
    names = delegated(content)
    # None is left to other kernels.
    assert sum(names.values()) - names["DELEGATE"] == len(ops)
    turns = int8 and network.builder in IN_TURNS
    assert 1 <= names["DELEGATE"] <= (3 if turns else 1)
