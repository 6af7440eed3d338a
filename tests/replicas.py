"""Runs a script under two virtual devices, in a process of its own."""

import fresh

# Logical devices must be set before TensorFlow starts.
_BEGIN = """
import larq_nobn
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""
_END = "\nprint('replicas agree')\n"


def assert_replicas_agree(script):
    """Runs `script`, which finds `strategy`, `tf` and the test modules, to its end."""
    done = fresh.run(_BEGIN + script + _END)
    assert done.stdout.endswith("replicas agree\n"), done.stderr[-3000:]
