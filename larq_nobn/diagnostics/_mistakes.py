from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import check_integer
from .._figures import check_plot, drawable, new_figure, shortened
from .._files import replacing
from ..population import as_probabilities

_INCHES = 1.5
_LONGEST, _LONGEST_NAME = 12, 20  # characters of a class and of a name


@dataclass(frozen=True)
class Mistake:
    """A misclassified example.

    Attributes:
        index: Number of the example, from 0.
        label: True class.
        predicted: Predicted class.
        probability: Probability of the predicted class.
        own: Probability of the true class.
        image: Input of the network.
    """

    index: int
    label: int
    predicted: int
    probability: float
    own: float
    image: np.ndarray


class Mistakes:
    """Collects the misclassified images with the highest loss, batch by batch.

    These are the images whose true class has the lowest probability, and so the highest
    cross-entropy. Equal ones are sorted by number.

    Arguments:
        count: Number of images, 1 or more.

    Raises:
        TypeError, ValueError: If `count` is not a whole number from 1.

    Example:
        ```python
        import larq_nobn as nobn
        import numpy as np

        worst = nobn.diagnostics.Mistakes(count=2)
        worst.update(np.zeros((2, 8, 8, 1)), [0, 1], [[0.1, 0.9], [0.3, 0.7]])
        print([(row.index, row.predicted) for row in worst.found])  # [(0, 1)]
        ```
    """

    def __init__(self, count: int = 24) -> None:
        self.count = check_integer("count", count, 1, "24 fill a plot.")
        self.found: list[Mistake] = []
        self._seen = 0

    def update(self, images: Any, labels: Any, outputs: Any) -> None:
        """Adds the mistakes of a batch.

        Arguments:
            images: (N, height, width, channels).
            labels: (N,), whole numbers.
            outputs: (N, classes), logits or probabilities.
        """
        y, p = np.asarray(labels), as_probabilities(np.asarray(outputs))
        predicted = p.argmax(1)
        for place in np.flatnonzero(predicted != y):
            number, image = self._seen + int(place), np.array(images[place])
            label, other = int(y[place]), int(predicted[place])
            probability, own = float(p[place, other]), float(p[place, label])
            self.found.append(Mistake(number, label, other, probability, own, image))
        self._seen += len(y)
        self.found.sort(key=lambda mistake: (mistake.own, mistake.index))
        del self.found[self.count :]

    def draw(
        self,
        path: str | os.PathLike,
        class_names: Sequence[str],
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        title: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """Plots the images, each below its true and its predicted class.

        Arguments:
            path: File of the plot; ends in .png.
            class_names: One name per class.
            mean: Mean that was subtracted from each channel of images in [0, 1].
            std: Standard deviation by which channels were then divided. Without mean
                and std, each image is scaled to the range of its values.
            title: The heading.
            names: A name per example, in their order, such as that of its file.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If the path does not end in .png.
        """
        target = check_plot(path)
        count = max(1, len(self.found))
        columns, rows = min(count, 6), -(-count // 6)
        size = (_INCHES * max(columns, 3) + 0.4, (_INCHES + 0.85) * rows + 0.6)
        figure = new_figure(target, size)
        figure.suptitle(drawable(title if self.found else f"{title}: no mistake"))
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            axes.set_axis_off()
        for axes, mistake in zip(figure.axes, self.found, strict=False):
            axes.imshow(*_shown(mistake.image, mean, std), vmin=0, vmax=1)
            classes = (class_names[k] for k in (mistake.label, mistake.predicted))
            right, wrong = (shortened(name, _LONGEST) for name in classes)
            text = f"{right}\npredicted {wrong}\n({100 * mistake.probability:.0f} %)"
            if len(names):
                text = f"{shortened(names[mistake.index], _LONGEST_NAME)}\n{text}"
            axes.set_title(text, fontsize=9)
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=120)


def _shown(
    image: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> tuple[np.ndarray, str | None]:
    """Returns an image in [0, 1], and the color map of a gray one."""
    if len(mean):
        image = image * np.asarray(std) + np.asarray(mean)
    else:
        low, high = image.min(), image.max()
        image = (image - low) / ((high - low) or 1)
    image = np.clip(image, 0, 1)
    return (image[..., 0], "gray") if image.shape[-1] == 1 else (image[..., :3], None)
