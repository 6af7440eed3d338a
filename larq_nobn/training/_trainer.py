"""A training run, from its settings to its folder."""

from __future__ import annotations

import copy
import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from .. import _signals
from .._checks import (
    check_bounds,
    check_choice,
    check_flag,
    check_kind,
    check_list,
    check_path,
)
from .._errors import InvalidValue
from .._keras import dtype_policy, keras
from .._names import CACHES, GIVEN, MODEL_FROM_INIT
from .._signals import stoppable
from ..calibration import calibrate
from ..config._run_files import CHECKPOINTS
from ..data import WHOLE, Dataset, DatasetInfo, Share, open_dataset, reading
from ..graph import _copies
from ..loading import open_model
from ..population import EXAMPLES
from . import _callbacks, _checkpoints, _distribution, _network, _run_folder
from ._checkpoints import START, Position
from ._distribution import WAIT
from ._evaluation import evaluate
from ._first_lines import first_lines
from ._run_folder import Run, load_run
from ._settings import RunSettings
from ._stopping import StopCheck, explain_non_finite
from ._training_model import Probabilities, TrainingModel, balanced_weights

_log = logging.getLogger("larq_nobn")
_start = logging.getLogger("larq_nobn.start")


class Trainer:
    """Trains one network: `build`, `fit`, `save`; `train` calls all three.

    A network that is trained before, the teacher or that of a first stage, has a
    trainer of its own, whose run folder is inside this one. The run folder is locked
    from the first training until `save`; a failure leaves it, to be resumed. The
    keyword arguments are those of `train`.

    Arguments:
        config: What to train, and how.
        dataset: The images: None for the data set that `config` names, or what `train`
            takes as `data`.

    Attributes:
        config: The settings, with the SHA-256 of `init`.
        dataset: The images.
        output: The run folder.
        network: The Keras model; None before `build`.
        model: The `TrainingModel` around it, which `fit` trains; None before `build`.
        history: A row per epoch; empty before `fit`.

    Raises:
        TypeError, ValueError: If an argument is not allowed.
        ConnectionError: If another worker is not there in time.
        FileNotFoundError: If the data set, or the network of `init`, is not there.

    Example:
        ```python
        config = nobn.training.RunSettings.from_recipe(
            dataset="digits", width=32, blocks=(4, 4), epochs=5
        )
        trainer = nobn.training.Trainer(config, output="runs/steps")
        trainer.build().summary()
        trainer.fit()
        run = trainer.save()
        ```
    """

    def __init__(
        self,
        config: RunSettings,
        dataset: Dataset | tuple[Any, ...] | None = None,
        *,
        output: str | os.PathLike,
        progress: keras.callbacks.Callback | bool = True,
        resume: bool = False,
        strategy: str = "none",
        checkpoint_steps: int | None = None,
        cache: str = "auto",
        trust: bool = False,
        wait: float = WAIT,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        wanted = "RunSettings. Make them with RunSettings.from_recipe"
        check_kind("config", config, RunSettings, wanted)
        check_path("output", output)
        if not isinstance(progress, keras.callbacks.Callback):
            check_flag("progress", progress)
        self._own = check_list("callbacks", callbacks)
        for each in self._own:
            wanted = "a Keras callback, of the Keras that larq_nobn uses"
            check_kind("a callback", each, keras.callbacks.Callback, wanted)
        named = isinstance(dataset, Dataset) and dataset.info.name != GIVEN
        if isinstance(dataset, Dataset):
            _check_given(dataset, config)
        _network.check_init(config, resume, trust)
        with stoppable():
            self._strategy = _distribution.strategy_for(strategy, wait)
        _distribution.check_shares(self._strategy, config.batch_size, config.accumulate)
        if checkpoint_steps is not None:
            check_bounds("checkpoint_steps", checkpoint_steps)
        self._cache = check_choice("cache", cache, CACHES)
        self._checkpoint_steps = checkpoint_steps
        self._progress, self._resume, self._trust = progress, resume, trust
        if dataset is not None:
            if not isinstance(dataset, Dataset):
                own = ("image_size", "channels", "validation")
                given = {name: getattr(config, name) for name in own}
                dataset = Dataset.from_data(dataset, **given)
            self.dataset = dataset
            config = config if named else config.but(dataset=GIVEN)
        self._teacher: Probabilities | None = None
        self._start_with(config, Path(output))

    def _start_with(self, config: RunSettings, output: Path) -> None:
        self.config, self.output = config, output
        self.network: keras.Model = None
        self.model: keras.Model = None
        self.history: list[dict[str, float]] = []
        self._folder: Path | None = None
        self._lock = ExitStack()

    @cached_property
    def dataset(self) -> Dataset:
        """The images of the run."""
        return open_dataset(**self.config.images)

    def build(self) -> keras.Model:
        """Builds and compiles the network, with the weights that it starts from.

        The teacher and the network of a first stage are trained before. The weights of
        `init` are taken in `fit`, since a run that is resumed does not need them.

        Returns:
            The network.
        """
        config = self.config
        with self._at_work():
            _check_held_out(self.dataset, config)
            if config.keep == "best" or config.patience is not None:
                _callbacks.check_validated("the epoch to keep", self.dataset.info)
            if config.teacher is not None and self._teacher is None:
                self._teacher = self._find_teacher()
            stage1 = None
            if config.stages == 2:
                stage1 = self._train_before("stage1", first_stage(config))
            keras.utils.set_random_seed(config.seed)
            self._images = self._batches("train")
            self._steps = len(self._images)
            _check_parts(self._images, config.accumulate)
            self._learning_rate = _network.schedule_for(config, self._steps)
            with (
                dtype_policy(config.precision),
                _callbacks.own_generators(),
                self._strategy.scope(),
            ):
                network = _network.build_network(config, self.dataset.info, self._trust)
                if stage1 is not None:
                    _network.transfer(stage1, network, "stage1")
                else:
                    _network.scale_latent_weights(network, config.latent_scale)
                    if config.calibrate:
                        calibrate(network, self._few_images())
                optimizer = _network.optimizer_for(config, self._steps, network)
                _network.compile_network(network, optimizer)
                weights = None
                if config.balance_classes:
                    weights = balanced_weights(self.dataset.class_counts(config.limit))
                self._averages = None
                if config.ema is not None:
                    self._averages = _callbacks.WeightAverages(network, config.ema)
                self.model = TrainingModel(
                    network,
                    config.accumulate,
                    self._teacher,
                    config.label_smoothing,
                    weights,
                    self._averages and self._averages.update,
                )
                # With its loss scale.
                _network.compile_network(self.model, network.optimizer)
            # Never again after the first step, nor after a first stage.
            takes_init = config.init is not None and stage1 is None
            self._kept = {"init": _checkpoints.Kept()} if takes_init else {}
            if config.teacher is not None:
                self._kept["teacher"] = self._taught
            self.network = network
        return network

    def fit(self) -> list[dict[str, float]]:
        """Trains from the newest checkpoint on, or from the start; builds before.

        Returns:
            The history, a row per epoch.

        Raises:
            NonFiniteLoss, ConnectionError, OSError, ValueError: As `train` does.
        """
        if self.network is None:
            self.build()
        with self._at_work():
            folder = self._lock_folder()
            history = _callbacks.HistoryWriter(
                folder / "history.csv", self._learning_rate, self._steps
            )
            callbacks = _callbacks.callbacks_of(
                self.config,
                self.network,
                history,
                folder,
                self._few_images,
                self._averages,
            )
            checkpoints = self._checkpoints(history, callbacks)
            position = checkpoints.restore(self.network)
            if position == START:
                with self._strategy.scope():
                    if (init := self._kept.get("init")) is not None:
                        given = self.config, self.network, self._trust
                        init.value = _network.take_init(*given)
                    if self._averages is not None:
                        self._averages.start()
            if position.steps == self._steps:  # it was stopped before the test
                position = position._replace(steps=position.steps - 1)
                self.model.skips_step = True
            self.model.first_step = position.steps
            alone = not _distribution.has_workers(self._strategy)
            check, watching = StopCheck(alone), self._progress
            progress = [] if isinstance(watching, bool) else [watching]
            over = _callbacks.is_over(self.config, history.rows)

            def stop_early(*_: object) -> None:
                if _callbacks.is_over(self.config, history.rows):
                    self.model.stop_training = True

            early = keras.callbacks.LambdaCallback(on_epoch_end=stop_early)
            named = _callbacks.NamedMetrics(self._watched)
            # Those of the start are there since `build` counted them. For ever, so that
            # one iterator serves all epochs: Keras would start one for each.
            images = self._images
            if position != START:
                images = self._batches("train", position)
            validation = self._batches(self._watched)
            self._say_what_runs(position)
            with explain_non_finite(
                self.config, self.network, check, checkpoints, self._batches
            ):
                self.model.fit(
                    self._shared(images.repeat(), "train", position),
                    steps_per_epoch=self._steps,
                    epochs=position.epochs if over else self.config.epochs,
                    initial_epoch=position.epochs,
                    validation_data=self._shared(validation, self._watched),
                    validation_steps=len(validation),
                    callbacks=[
                        *(check, named, *callbacks, early),
                        *(*self._own, *progress, checkpoints),
                    ],
                    verbose=2 if watching is True else 0,  # a line for each epoch
                )
            # Of the last epoch the weights are there, but perhaps not yet the file,
            # which another worker writes.
            rows, validated = history.rows, self._watched == "validation"
            kept = _callbacks.kept_epoch(self.config, rows)
            best = _callbacks.best_epoch(self.config, rows) if validated else len(rows)
            self._others: dict[str, Any] = {}
            if validated:
                self._others = {"best": None, "last": None}
                if best < len(rows) == kept:
                    self._others["best"] = checkpoints.weights_of(self.network, best)
                elif best < len(rows):
                    self._others["last"] = checkpoints.weights_of(self.network)
            if kept < len(rows):
                checkpoints.restore_epoch(self.network, kept)
            if self._averages is not None:
                self._averages.swap()
            self.history = rows
        return self.history

    def save(self) -> Run:
        """Tests the trained network, and writes model, curves and record.

        Returns:
            The finished run.

        Raises:
            RuntimeError: If nothing has been trained.
            OSError: If a file cannot be written.
            ModelError: If the file of the network would compute something else: a layer
                depends on what is neither in its weights nor in its configuration. The
                run can be resumed once that is repaired.
        """
        if not self.history:
            raise RuntimeError(
                "save() has nothing to write: the network is not trained. Call fit()."
            )
        with self._at_work():
            # The layers of a given network may be of the user's classes.
            if self.config.model == MODEL_FROM_INIT:
                _copies.copied(self.network)  # as the file will be
            epoch = _callbacks.kept_epoch(self.config, self.history)
            init = self._kept.get("init")
            more = {} if init is None else {"init": init.value}
            record = _run_folder.write_record(
                self._lock_folder(),
                self.config,
                self.network,
                self.history,
                self._metrics(self.history[epoch - 1]),
                self.dataset.info,
                {**more, "kept_epoch": epoch},
                self._watched,
                self._others,
            )
            self._lock.close()
            self._folder = None
        return Run(self.output, self.network, self.history, record)

    def _say_what_runs(self, position: Position) -> None:
        if position != START:
            done = f"{position.epochs} epochs and {position.steps} steps"
            lines: Iterable[str] = [f"{self.output} resumes after {done}"]
        else:
            what = self.config, self.dataset, self.network, self._steps, self.output
            lines = first_lines(*what)
        for line in lines:
            _start.info("%s", line)
            if self._progress is True:
                print(line)

    def _run(self) -> Run:
        """Does all of it; a finished run that is resumed is returned as it is."""
        if self._resume and _run_folder.is_finished(
            self.output, _run_folder.plain(self.config)
        ):
            return load_run(self.output, self._trust)
        with self._at_work():
            if self._strategy.extended.should_checkpoint:
                _run_folder.check_output(*self._claim)
            # What does not fit is said before the folder is there.
            self.build()
            self.fit()
            return self.save()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Handles signals, lost workers and unreadable images; a failure unlocks."""
        with stoppable(), _distribution.with_all_workers(), reading():
            try:
                yield
            except BaseException:
                _signals.in_step = False
                self._lock.__exit__(*sys.exc_info())
                self.network = self.model = self._folder = None
                self.history = []
                raise

    def _lock_folder(self) -> Path:
        """Where this process writes: one worker in the run folder, the others away."""
        if self._folder is None:
            if self._strategy.extended.should_checkpoint:
                place: Any = _run_folder.lock_run_folder(*self._claim)
            else:
                place = TemporaryDirectory()
            self._folder = Path(self._lock.enter_context(place))
        return self._folder

    @property
    def _claim(self) -> tuple[Path, dict[str, Any], bool]:
        settings = _run_folder.plain(self.config, self.dataset.fingerprint)
        return self.output, settings, self._resume

    def _find_teacher(self) -> Probabilities:
        name, trained = str(self.config.teacher), None
        if name == "train":
            settings = _network.teacher_settings(self.config)
            trained = self._train_before("teacher", settings)
        # A copy, in which all replicas see the same statistics of batch norm.
        with self._strategy.scope():
            model = trained and _copies.copied(trained)
            model = model or open_model(name, trust=self._trust)
        weights = b"".join(weight.tobytes() for weight in model.get_weights())
        self._taught = _checkpoints.Kept(
            hashlib.sha256(weights).hexdigest(),
            f"The teacher {name} has other weights than at the start of the run. "
            "Restore its file, or start another run.",
        )
        info = self.dataset.info
        return _network.probabilities_of(model, name, info.image_shape, info.classes)

    def _train_before(self, name: str, config: RunSettings) -> keras.Model:
        """Trains another network of the same images, in a folder inside this one."""
        self._lock_folder()
        trainer = copy.copy(self)
        trainer._own = ()
        trainer._start_with(config, self.output / name)
        return trainer._run().model

    def _batches(
        self,
        split: str,
        position: Position = START,
        share: Share = WHOLE,
        **changes: Any,
    ) -> tf.data.Dataset:
        config, training = self.config, split == "train"
        options = {
            "batch_size": config.batch_size,
            "augment": config.augment if training else None,
            "flip": config.flip if training else "auto",
            "mixup": config.mixup if training else 0.0,
            "cutmix": config.cutmix if training else 0.0,
            "reflect": config.reflect,
            "seed": config.seed,
            "limit": config.limit,
            "epoch": position.epochs,
            "step": position.steps,
            "share": share,
            "cache": self._cache,
        }
        return self.dataset.batches(split, **{**options, **changes})

    def _shared(
        self, images: tf.data.Dataset, split: str, position: Position = START
    ) -> Any:
        parts = partial(self._batches, split, position)
        return _distribution.shared(images, parts, self._strategy)

    def _few_images(self) -> tf.data.Dataset:
        """A batch of training images, the same for the same settings."""
        few = min(EXAMPLES, self.config.limit or EXAMPLES)
        return self._batches("train", batch_size=few, mixup=0.0, cutmix=0.0).take(1)

    def _checkpoints(
        self,
        history: _callbacks.HistoryWriter,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> _checkpoints.Checkpoints:
        within: dict[str, Any] = {"metrics": _checkpoints.EpochMetrics(self.model)}
        for each in callbacks:
            if hasattr(each, "get_state") and each is not history:
                within[type(each).__name__] = each
        best = None
        if self._watched == "validation":
            best = partial(_callbacks.best_epoch, self.config)
        own: dict[str, Any] = {}
        for each in (x for x in self._own if hasattr(x, "get_state")):
            name = type(each).__name__
            own[f"{name} {sum(n.startswith(f'{name} ') for n in own)}"] = each
        info = self.dataset.info

        def save(file: Path) -> None:
            described = info if info.mean else None
            _run_folder.save_model(self.network, file, described)

        every = self._checkpoint_steps
        if every is None and _distribution.has_workers(self._strategy):
            every = sys.maxsize  # their clocks differ, and all take part
        return _checkpoints.Checkpoints(
            self.output / CHECKPOINTS,
            {"journal": history, **self._kept},
            within,
            every,
            writes=self._strategy.extended.should_checkpoint,
            averages=() if self._averages is None else self._averages.variables,
            best=best,
            own=own,
            # Reading variables may need all workers, and one alone would write this.
            save=None if _distribution.has_workers(self._strategy) else save,
        )

    @property
    def _watched(self) -> str:
        return watched_split(self.dataset.info)

    def _metrics(self, row: dict[str, float]) -> dict[str, float]:
        """Those of the epoch that is kept, and of the test images."""
        parts = itertools.product(("", "val_", "test_"), ("loss", "accuracy"))
        names = [f"{prefix}{name}" for prefix, name in parts]
        metrics = {name: row[name] for name in names if name in row}
        if self._watched == "test":
            return metrics
        tested = evaluate(self.network, self._batches("test"))
        del tested["examples"]
        return metrics | {f"test_{name}": float(n) for name, n in tested.items()}


def first_stage(config: RunSettings) -> RunSettings:
    """The first of two stages: the same network with real-valued kernels."""
    return config.but(
        stages=1,
        kernel=None,
        weight_decay=config.stage_one_decay,
        network={**config.network, "binary_weights": False},
    )


def watched_split(info: DatasetInfo) -> str:
    """The split of the history: validation, or test where there is no validation."""
    return "validation" if info.validation_examples else "test"


def _check_given(dataset: Dataset, config: RunSettings) -> None:
    """Rejects a data set that the settings would describe otherwise."""
    own = {n: getattr(config, n) for n in ("image_size", "channels", "validation")}
    if dataset.info.name == GIVEN and any(own.values()):
        said = ", ".join(f"{name}={value}" for name, value in own.items())
        raise InvalidValue(
            f"{said} are not used for the given images. Pass them to Dataset.from_data."
        )
    if (
        dataset.info.name != GIVEN
        and dataset.info != open_dataset(**config.images).info
    ):
        raise InvalidValue(
            f"dataset is {dataset.info.name}, with other images or another size than "
            f"the settings have: {config.images}. Choose the same in both, or leave "
            "dataset out."
        )


def _check_held_out(dataset: Dataset, config: RunSettings) -> None:
    """Rejects a validation split of no image; says what it, or the test, repeats."""
    info = dataset.info
    if config.validation and not info.validation_examples:
        raise InvalidValue(
            f"validation={config.validation} holds out none of the "
            f"{info.train_examples} training images. Choose a larger fraction, such as "
            "0.1 or 0.2, or 0 for no validation split."
        )
    for split in ("validation", "test") if info.validation_examples else ("test",):
        count = getattr(info, f"{split}_examples")
        if repeated := dataset.repeated(split):
            _log.warning(
                "%d of %d %s images are also training images, equal to the byte: their "
                "accuracy says nothing of new images.",
                *(repeated, count, split),
            )
    if config.init is not None and config.validation:
        theirs = _run_folder.trained_on(config.init) or {"dataset": ""}
        same = Path(theirs["dataset"]).name == Path(config.dataset).name
        if same and theirs.get("validation") != config.validation:
            _log.warning(
                "The network of %s was trained on images that are held out here, which "
                "makes val_* too good. Train it with --validation %g, too.",
                *(config.init, config.validation),
            )


def _check_parts(images: tf.data.Dataset, parts: int) -> None:
    """Rejects a batch of all training images that micro-batches do not divide."""
    size = tf.nest.flatten(images.element_spec)[0].shape[0]
    if size is not None and size % parts:
        raise InvalidValue(
            f"accumulate={parts} does not divide the {size} training images, which are "
            "fewer than a batch. Choose a divisor of their number, or a smaller "
            "batch_size."
        )


def train(
    settings: RunSettings,
    output: str | os.PathLike,
    progress: keras.callbacks.Callback | bool = True,
    *,
    resume: bool = False,
    strategy: str = "none",
    data: Dataset | tuple[Any, ...] | None = None,
    checkpoint_steps: int | None = None,
    cache: str = "auto",
    trust: bool = False,
    wait: float = WAIT,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Run:
    """Trains a network and leaves a run folder; the same seed gives the same weights.

    The folder contains `model.keras`, `history.csv`, `run.json`, TensorBoard files
    under `logs/`, and `curves.png` if matplotlib is there; with a validation split
    `best.keras` and `last.keras`, of which `model.keras` is one; further runs in
    `stage1/` and `teacher/` if the recipe has those. After each epoch, every ten
    minutes within one, and when Ctrl-C or SIGTERM stops it (but for several workers),
    a checkpoint is written, from which a stopped run resumes. `Trainer` does the same
    in steps.

    Arguments:
        settings: What to train, and how.
        output: The run folder; it may exist, but must be empty, or resumed.
        progress: Whether to print a line for each epoch; or a Keras callback that
            watches the run instead, such as a progress bar, and leaves the weights as
            they are.
        resume: Whether to resume an unfinished run of the same settings in `output`. A
            finished one is returned as it is, and a run starts if none exists.
        strategy: `"none"`, `"mirrored"` over all GPUs of this machine, or
            `"multi_worker"` over the machines that the variable TF_CONFIG names.
        data: Images in place of a data set: (train, test) or (train, validation, test),
            each (images, labels) as arrays of bytes, which are treated as a data set
            is, or of floats, which are normalized already; or each a `tf.data.Dataset`
            of (images, labels), each pass of which is an epoch, taken as it comes; or
            what `larq_nobn.data.Dataset.from_data` returns of them. The dataset of the
            settings is then `"given"`. To resume, give the same again; a
            `tf.data.Dataset` has to be the same in each pass for that.
        checkpoint_steps: Write a checkpoint every so many steps of an epoch, instead of
            every ten minutes. It has no influence on the weights.
        cache: Where decoded images are kept, as in `larq_nobn.data.load`. Nor has it.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. For files of your own.
        wait: Seconds after which a worker of `"multi_worker"` gives up waiting for the
            others.
        callbacks: Keras callbacks of your own, called after those of the run. What
            `get_state()` of one returns, as JSON, is part of each checkpoint, and
            given to its `set_state` after `on_epoch_begin` of the epoch that is
            resumed. Runs before this one (`stage1`, `teacher`) do not call them.

    Returns:
        The finished run.

    Raises:
        FileExistsError: If `output` is not empty.
        FileNotFoundError: If the data set is not prepared, or the network that the run
            starts from is not there.
        RunInUse: If another process trains in `output`.
        ConnectionError: If another worker has stopped, or is not there in time.
        NonFiniteLoss: If the loss becomes infinite or NaN; says where.
        OSError: If an image cannot be read any more; names it.
        ValueError: If the network does not fit the data, an unfinished run in `output`
            has other settings, the replicas cannot share a batch evenly, or no weight
            of `init` fits.

    Example:
        ```python
        settings = nobn.training.RunSettings.from_recipe(
            dataset="digits", width=32, blocks=(4, 4), epochs=5
        )
        run = nobn.training.train(settings, "runs/digits")
        ```
    """
    return Trainer(
        settings,
        data,
        output=output,
        progress=progress,
        resume=resume,
        strategy=strategy,
        checkpoint_steps=checkpoint_steps,
        cache=cache,
        trust=trust,
        wait=wait,
        callbacks=callbacks,
    )._run()
