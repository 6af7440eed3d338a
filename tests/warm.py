"""What most processes of `fresh` would do first, done before they are forked off.

Python and TensorFlow find much a second time that a network in a graph of its own makes
them look up. TensorFlow has not begun to work then: its devices, its clusters and its
random state are still to be chosen.
"""

import larq_nobn as nobn
import lighter
import sklearn.datasets  # noqa: F401  (the digits)
import tensorflow as tf

lighter.replace_all()
with tf.Graph().as_default():
    # Balanced filters would ask which devices there are.
    _network = nobn.models.ReActNet18(
        (8, 8, 1), 10, width=2, blocks=(1,), balanced=False
    )
    _logits = _network(tf.zeros((1, 8, 8, 1)), training=True)
    tf.gradients(_logits, _network.trainable_variables)
del _network, _logits
