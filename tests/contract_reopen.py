"""Opens saved models in a process that has imported nothing but larq_nobn.

Started by the contract test with a folder. For every model in it, `NAME.inputs.npz`
gives the inputs; the outputs, the classes found and the architecture go to
`MODEL.opened.npz`, or the reason why it could not be opened to `MODEL.error.txt`.
"""

import json
import sys
import traceback
from pathlib import Path

import numpy as np
from larq_nobn._keras import keras

SUFFIXES = (".keras", ".h5", ".saved_model")


def class_names(model):
    """The class of everything inside, quantizers too, with its module."""
    return sorted(
        f"{type(module).__module__}.{type(module).__qualname__}"
        for module in model.submodules
        if isinstance(module, keras.layers.Layer)
    )


def without_build_shapes(text):
    """A configuration in JSON without what Keras adds to the nested objects it built.

    From a SavedModel it does not restore that of a layer without a `build` of its own.
    """

    def plain(config):
        return {k: v for k, v in config.items() if k != "build_config"}

    return json.dumps(json.loads(text, object_hook=plain), sort_keys=True)


def architecture(model):
    """The configuration of everything, as text of a line per layer."""
    config = json.loads(without_build_shapes(model.to_json()))
    layers = config["config"].pop("layers")
    return "\n".join(json.dumps(each) for each in [*layers, config])


def outputs(model, arrays):
    """The outputs for a list of inputs in inference mode, then the added losses."""
    inputs = list(arrays) if len(arrays) > 1 else arrays[0]
    found = model(inputs, training=False)
    found = found if isinstance(found, (list, tuple)) else [found]
    return [np.asarray(each) for each in [*found, *model.losses]]


def main(folder):
    for path in sorted(folder.iterdir()):
        if path.suffix not in SUFFIXES:
            continue
        arrays = np.load(path.with_suffix(".inputs.npz"))
        try:
            model = keras.models.load_model(path)
            found = outputs(model, [arrays[key] for key in arrays.files])
            np.savez(
                f"{path}.opened.npz",
                *found,
                classes=class_names(model),
                architecture=architecture(model),
            )
        except Exception:
            Path(f"{path}.error.txt").write_text(traceback.format_exc())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
