"""The lines that a training prints first: its images, network and number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._keras import keras
from .._names import MODEL_FROM_INIT, SPLITS
from .._tables import wilson_interval
from ..config._settings import shown
from ..data import Dataset
from ..models._summary import ModelProfile
from ._run_settings import RunSettings

# A held-out split is small if its accuracy has a wider interval than ± this, in points.
_WIDE = 10
# A split is uneven if one class has more than this many times the images of another.
_UNEVEN = 5
# Bytes that a TFLite file needs for each layer in addition to its weights.
_PER_LAYER = 600


def first_lines(
    config: RunSettings,
    dataset: Dataset,
    network: keras.Model,
    steps: int,
    output: Path,
) -> Iterator[str]:
    """Yields the lines that describe a run before its first step."""
    info, splits = dataset.info, [*_splits(dataset, config.limit)]
    yield f"Images: {', '.join(said for _, _, _, said in splits)}; {info.name}"
    *sides, channels = info.image_shape
    size = f"Size: {'x'.join(map(str, sides))}, {_counted(channels, 'channel')}"
    if dataset.sizes - {tuple(sides)}:
        stored = ["x".join(map(str, each)) for each in sorted(dataset.sizes)]
        unlike = "several sizes" if len(stored) > 1 else "more than 224 pixels"
        why = "--image-size" if config.image_size else unlike
        ends = " to ".join(dict.fromkeys((stored[0], stored[-1])))
        size += f"; images of {ends} are cropped and scaled ({why})"
    yield size
    yield f"Augmentation: {_augmentation(config, dataset)}"
    mean, std = (", ".join(map(str, each)) for each in (info.mean, info.std))
    said = f"{mean}; {std}" if mean else "images are not normalized"
    yield f"Mean and standard deviation: {said}"
    size = ModelProfile(network).memory / 8 + _PER_LAYER * len(network.layers)
    model = config.init if config.model == MODEL_FROM_INIT else config.model
    how = [model, config.normalization]
    how += [shown(config.network)] if config.network else []
    yield (
        f"Network: {', '.join(filter(None, how))}; {network.count_params():,} "
        f"parameters, a TFLite file of about {size / 1e3:,.0f} kB"
    )
    yield (
        f"Steps: {_counted(config.epochs, 'epoch')} of {_counted(steps, 'step')}, "
        f"{min(config.batch_size, config.limit or info.train_examples)} images each; "
        f"written to {output}"
    )
    for split, count, counts, _ in splits:
        if split != "train":
            yield from _held_out(split, count, counts, info.class_names)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _splits(dataset: Dataset, limit: int | None) -> Iterator[tuple[str, int, Any, str]]:
    """Yields each split, its images, those of each class, and a description.

    Where the images of each class are not counted, they are ().
    """
    for split in SPLITS:
        if whole := getattr(dataset.info, f"{split}_examples"):
            count = min(whole, limit or whole)
            counts: tuple[int, ...] = ()
            said = f"{count:,} {split}"
            with suppress(ValueError):
                counts = dataset.class_counts(limit, split)
                ends = dict.fromkeys(f"{end(counts):,}" for end in (min, max))
                said += f" ({' to '.join(ends)} of each of {len(counts)} classes)"
            yield split, count, counts, said


def _augmentation(config: RunSettings, dataset: Dataset) -> str:
    how = {n: getattr(config, n) for n in ("augment", "flip", "reflect")}
    mix = {n: getattr(config, n) for n in ("mixup", "cutmix")}
    if not dataset.is_varied:
        return "none, images come from tf.data as they are"
    transform = dataset.transform(**how, **mix)
    said = [transform.augment]
    if transform.augment not in ("none", "random_resized_crop"):
        said.append("padded by reflection" if config.reflect else "padded by zeros")
    if transform.flip:
        said.append("mirrored")
    elif transform.augment != "none":
        why = dataset.why_not_mirrored
        auto = why and config.flip == "auto" and transform.augment != "crop"
        said.append("not mirrored" + f", {why} (--flip horizontal)" * bool(auto))
    said += [f"{name} {value:g}" for name, value in mix.items() if value]
    return ", ".join(said)


def _held_out(
    split: str, count: int, counts: Sequence[int], names: Sequence[str]
) -> Iterator[str]:
    """Yields a warning if a held-out split is small or uneven."""
    low, high = wilson_interval(0.5, count)
    if 100 * (high - low) > 2 * _WIDE:
        yield (
            f"With only {count} {split} images, a measured accuracy of 50 % means "
            f"{100 * low:.0f} to {100 * high:.0f} %."
        )
    if counts and max(counts) > _UNEVEN * min(counts):
        few, many = (counts.index(end(counts)) for end in (min, max))
        names = names or [*map(str, range(len(counts)))]
        yield (
            f"The {split} split is uneven: {counts[few]:,} of {names[few]}, "
            f"{counts[many]:,} of {names[many]}."
        )
