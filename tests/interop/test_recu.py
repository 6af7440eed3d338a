import larq_nobn as nobn
import pytest
from interop import published_recu
from interop.comparing import assert_same_function, save
from interop.published import randomized


@pytest.mark.parametrize(
    "name, blocks, size",
    [
        ("ResNet20", (2, 1, 1), (16, 12)),
        ("ResNet18", (2, 1, 1, 1), (16, 24)),
        ("ImageNet", (1, 2, 1), (40, 28)),
        ("ReActNet", (2, 2, 1), (32, 48)),
    ],
)
def test_outputs_are_those_of_pytorch(name, blocks, size, tmp_path):
    network = randomized(getattr(published_recu, name)(blocks=blocks), seed=0)
    path = save(network, tmp_path / "checkpoint.pth.tar")
    assert_same_function(network, nobn.interop.load_recu(path, size), size)


def test_vgg_small_takes_the_size_of_its_dense_layer(tmp_path):
    network = randomized(published_recu.VGGSmall(), seed=0)
    path = save(network, tmp_path / "checkpoint.pth.tar")
    assert_same_function(network, nobn.interop.load_recu(path), (16, 16))
