"""Small faults planted in the operations that files are written from."""

import numpy as np
from larq_nobn.deploy.lite._trace import layer_name
from larq_nobn.deploy.operations._program import Program


def changed(program, layer, kind, change):
    """The program, in which nodes of a kind of a layer have other arguments."""
    nodes, actual = [], 0
    for node in program.nodes:
        fits = node.kind == kind and layer_name(node.name) == layer
        actual += fits
        nodes.append(node.with_arguments(**change(node)) if fits else node)
    assert actual
    return Program(program.inputs, nodes, program.outputs)


def with_fault(form, fault, layer, of_file=False):
    """The operations with a fault: as they are lowered, or as the file has them."""
    kind, change = fault
    name = "program" if of_file else "_lowered"
    setattr(form, name, changed(getattr(form, name), layer, kind, change))
    return form


def numbers(name, change):
    """A change of some numbers of a node."""

    def other(node):
        array = np.array(node[name])
        change(array)
        return {name: array}

    return other


def _negate(place):
    return lambda array: array.__setitem__(place, -array[place])


def _swap(array):
    array[..., [0, 1]] = array[..., [1, 0]]


def _times(array):
    array[2] *= -1.5


BIAS = "kernel", numbers("bias", lambda array: array.__setitem__(3, array[3] + 2.0))
LOGIT = "kernel", numbers("bias", lambda array: array.__setitem__(2, array[2] + 100))
BIT = "kernel", numbers("kernel", lambda a: _negate((0, 0, 1, 2)[-a.ndim :])(a))
GAIN = "kernel", numbers("scale", _times)
SWAPPED = "kernel", numbers("kernel", _swap)
# Pads with the other number, so that only the border of a map is wrong.
BORDER = "pad", lambda node: {"value": 1.0 - node["value"]}
