"""Small faults planted in the operations that files are written from."""

from dataclasses import replace

import numpy as np
from larq_nobn.deploy.operations._kinds import Kernel, Pad
from larq_nobn.deploy.operations._program import Program
from larq_nobn.deploy.trace._operation_names import layer_name


def changed(program, layer, kind, change):
    """The program, in which nodes of a kind of a layer have other arguments."""
    nodes, actual = [], 0
    for node in program.nodes:
        fits = isinstance(node, kind) and layer_name(node.name) == layer
        actual += fits
        nodes.append(replace(node, **change(node)) if fits else node)
    assert actual
    return Program(program.inputs, nodes, program.outputs)


def with_fault(stages, fault, layer, of_file=False):
    """The stages with a fault: in what is lowered, or in what the file is made of."""
    if of_file:
        return replace(stages, spelled=changed(stages.spelled, layer, *fault))
    lowered = stages.lowered
    program = changed(lowered.program, layer, *fault)
    return replace(stages, lowered=replace(lowered, program=program))


def numbers(name, change):
    """A change of some numbers of a node."""

    def other(node):
        array = np.array(getattr(node, name))
        change(array)
        return {name: array}

    return other


def _negate(place):
    return lambda array: array.__setitem__(place, -array[place])


def _swap(array):
    array[..., [0, 1]] = array[..., [1, 0]]


def _times(array):
    array[2] *= -1.5


BIAS = Kernel, numbers("bias", lambda array: array.__setitem__(3, array[3] + 2.0))
LOGIT = Kernel, numbers("bias", lambda array: array.__setitem__(2, array[2] + 100))
BIT = Kernel, numbers("weights", lambda a: _negate((0, 0, 1, 2)[-a.ndim :])(a))
GAIN = Kernel, numbers("scale", _times)
SWAPPED = Kernel, numbers("weights", _swap)
# Pads with the other number, so that only the border of a map is wrong.
BORDER = Pad, lambda node: {"value": 1.0 - node.value}
