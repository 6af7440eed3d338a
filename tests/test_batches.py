"""Data that is read batch by batch, of which some never ends."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.population._batches import batches
from numpy.testing import assert_array_equal

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6)


class Endless(keras.utils.Sequence):
    """Of three batches, which iteration goes round for ever."""

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return X[2 * number : 2 * number + 2], Y[2 * number : 2 * number + 2]


def repeated():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat()


def generator():
    sequence = Endless()
    return (sequence[number % 3] for number in itertools.count())


def test_a_sequence_is_read_once():
    x, y = zip(*batches(Endless(), 128), strict=True)
    assert_array_equal(np.concatenate(x), X)
    assert_array_equal(np.concatenate(y), Y)


@pytest.mark.parametrize("endless", [repeated, generator, Endless])
def test_as_many_as_are_needed_are_taken(endless):
    x, _ = zip(*batches(endless(), 128, most=3), strict=True)
    assert_array_equal(np.concatenate(x), X[:4])
