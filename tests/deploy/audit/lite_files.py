"""Files of small networks as they are, of no rule, and files changed by hand."""

import copy

import flatbuffers
from deploy.nets import as_traced, chain
from larq_nobn.deploy._audit import audit_bytes
from larq_nobn.deploy.lite._converter import io_spec, to_flatbuffer


def plain_file(model):
    """Converts a model as another converter would."""
    io = io_spec(model)
    return to_flatbuffer(as_traced(model, io), io)


def audited(model):
    """The audit of an unprepared model, whose last operation has its layer's name."""
    ends = [tensor._keras_history.layer.name for tensor in model.outputs]
    return audit_bytes(plain_file(model), model.name, ends)


def audited_chain(*layers, **changes):
    return audited(chain(*layers, **{"stem": False, "shape": (8, 8, 32), **changes}))


def edited(content, change):
    """The same file after `change` had its way with it, unpacked."""
    from larq_compute_engine.mlir.python import tflite_schema as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model = copy.deepcopy(model)  # its arrays are views of the content
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
