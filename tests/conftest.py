import atexit
import gc
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What hypothesis draws is the same each time, however long it takes.
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("same")

# What a shell starts in the background ignores it, and so do its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without AutoGraph. What users run, the contract of each class, training and the
# commands, is tested with it, and so is the conversion of models that are the user's
# own code.
_FOLDERS = (
    "calibration",
    "deploy",
    "diagnostics",
    "examples",
    "graph",
    "interop",
    "layers",
    "models",
    "optimizers",
    "quantizers",
    "surgery",
    "test_accelerator.py",
    "test_copies.py",
)
_OWN_CODE = "test_traced.py"
_TESTS = Path(__file__).parent


def pytest_configure(config):
    """Imports the package first of all, since it selects legacy Keras.

    But not where processes of pytest's own run the tests, and this one only waits.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        # Looking for garbage takes 7 % of the time where it looks through all that
        # TensorFlow brings, too: what is there when the tests start is never looked at,
        # nor what is left at the end. Graphs, which contain themselves in circles, are.
        gc.disable()
        atexit.register(gc.freeze)
        import larq_nobn  # noqa: F401
        import lighter

        lighter.replace_all()


def pytest_collection_modifyitems(items):
    """Long tests come first, so that no process waits for one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(2000, 10, 100)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    folder = item.path.relative_to(_TESTS).parts[0]
    if folder not in _FOLDERS or item.path.name == _OWN_CODE:
        return (yield)
    import lighter

    with lighter.without_autograph():
        return (yield)
