"""Several monitors with one folder for TensorBoard."""

from callback_networks import compiled, fit
from larq_nobn._keras import keras
from larq_nobn.callbacks import (
    BinaryWeightMonitor,
    GradientClippingMonitor,
    MemoryMonitor,
    ThroughputMonitor,
)

NAMES = {"flip_ratio", "clipped_share", "images_per_second", "peak_memory_mib"}


def monitors(folder):
    return [
        ThroughputMonitor(4, folder),
        BinaryWeightMonitor(log_dir=folder),
        GradientClippingMonitor(str(folder)),
        MemoryMonitor(folder),
    ]


class Board(keras.callbacks.Callback):
    """Looks into the folder after each epoch, as TensorBoard does while it is open."""

    def __init__(self, folder):
        super().__init__()
        from tensorboard.backend.event_processing import event_accumulator

        self.events = event_accumulator.EventAccumulator(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        self.events.Reload()


def test_tensorboard_can_follow_the_training(tmp_path):
    board = Board(tmp_path)
    fit(compiled(), *monitors(tmp_path), board)
    for name in NAMES:  # it reads files in order, and returns to none
        assert [event.step for event in board.events.Tensors(name)] == [0, 1]
