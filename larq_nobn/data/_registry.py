"""`DatasetInfo`, and a table of the data sets that have a name here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """Describes a data set: shape, classes, counts, mean and standard deviation.

    Arguments:
        name: The name or folder that `load` takes.
        image_shape: Height, width and channels of the images that a network gets.
        classes: Number of classes.
        class_names: One name per class, in the order of the labels; empty for ImageNet,
            whose 1,000 synsets `tfds.builder("imagenet2012").info` lists.
        train_examples: Images in the split `"train"`; 0 if they are not counted.
        test_examples: Images in the split `"test"`.
        mean: Mean of each channel over the training images, in [0, 1]; empty for
            images that are not normalized.
        std: Standard deviation of each channel, likewise.
        crop: Fraction of each side that the center crop of test images keeps.
        validation_examples: Images in the split `"validation"`; 0 without that split.
        holdout: Test fraction of an image folder without a test folder; else None.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    train_examples: int = 0
    test_examples: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop: float = 1.0
    validation_examples: int = 0
    holdout: float | None = None


_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip
turtle wardrobe whale willow_tree wolf woman worm
"""
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

BUILT_IN = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits", (8, 8, 1), 10, _DIGITS, 1_442, 355, (0.3052,), (0.3760,)
        ),
        DatasetInfo(
            "mnist", (28, 28, 1), 10, _DIGITS, 60_000, 10_000, (0.1307,), (0.3081,)
        ),
        DatasetInfo(
            "fashion_mnist", (28, 28, 1), 10, _FASHION, 60_000, 10_000,
            (0.2860,), (0.3530,),
        ),
        DatasetInfo(
            "cifar10", (32, 32, 3), 10, tuple(_CIFAR10.split()), 50_000, 10_000,
            (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
        ),
        DatasetInfo(
            "cifar100", (32, 32, 3), 100, tuple(_CIFAR100.split()), 50_000, 10_000,
            (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
        ),
        DatasetInfo(
            "imagenet", (224, 224, 3), 1000, (), 1_281_167, 50_000,
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224 / 256,
        ),
    )
}  # fmt: skip
