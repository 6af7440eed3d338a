"""`Trainer` and `train`: one training run, from settings to run folder."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from .. import _checks, _signals
from .._keras import check_model, dtype_policy, keras
from .._names import CACHES, CONSECUTIVE, GIVEN
from .._signals import stoppable
from ..calibration import calibrate
from ..config._run_files import CHECKPOINTS, HISTORY_FILE
from ..data import Dataset, open_dataset, reading
from ..graph import _copies
from ..loading import open_model, save_model
from . import _callbacks, _distribution, _network, _run_folder
from ._callbacks import best_epoch, is_over, saved_epoch
from ._checkpoints import START, Checkpoints, CheckpointValue, EpochMetrics, Position
from ._distribution import WAIT
from ._evaluation import evaluate
from ._first_lines import first_lines
from ._run_folder import Run, load_run
from ._run_images import RunImages, check_given, check_micro_batches, shape_of
from ._run_settings import TAKEN, RunSettings
from ._runs_before import runs_before
from ._stopping import StopCheck, explain_non_finite
from ._training_model import Probabilities, TrainingModel, balanced_weights

_start = logging.getLogger("larq_nobn.start")


class Trainer:
    """Trains one network in three steps: `build`, `fit`, `save`; `train` calls all.

    A teacher or a first stage is trained by a trainer of its own, in a run folder
    inside this one. The run folder is locked from the first training until `save`;
    after a failure, it can be resumed. Keyword arguments are those of `train`.

    Arguments:
        config: What to train, and how.
        dataset: The images: None for the data set that `config` names, or what `train`
            takes as `data`.
        before: Networks that are trained already, by the names of their folders
            (`"teacher"`, `"stage1"`); `build` trains those that are missing.

    Attributes:
        network: The Keras model; None before `build`.
        model: The `TrainingModel` around it, which `fit` trains; None before `build`.
        history: A row per epoch; empty before `fit`.

    Raises:
        TypeError, ValueError: If an argument is not allowed.
        ConnectionError: If another worker does not start in time.
        FileNotFoundError: If the data set, or the network of `init`, does not exist.

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
        model: keras.Model | None = None,
        before: Mapping[str, keras.Model] | None = None,
    ) -> None:
        wanted = "RunSettings. Make them with RunSettings.from_recipe"
        _checks.check_kind("config", config, RunSettings, wanted)
        self.output = Path(_checks.check_path("output", output))
        if not isinstance(progress, keras.callbacks.Callback):
            _checks.check_flag("progress", progress)
        self._own = _checks.check_list("callbacks", callbacks)
        for each in self._own:
            wanted = "a Keras callback, of the Keras that larq_nobn uses"
            _checks.check_kind("a callback", each, keras.callbacks.Callback, wanted)
        if checkpoint_steps is not None:
            _checks.check_bounds("checkpoint_steps", checkpoint_steps)
        if model is not None:
            check_model(model)
            config = config.of_given_network()
        if isinstance(dataset, Dataset):
            check_given(dataset, config)
        elif dataset is not None:
            dataset = Dataset.from_data(dataset, **shape_of(config))
        if dataset is not None:
            self.dataset = dataset
            if dataset.info.name == GIVEN:
                config = config.but(dataset=GIVEN)
        _network.check_init(config, resume, trust, model)
        with stoppable():
            self._strategy = _distribution.strategy_for(strategy, wait)
        _distribution.check_slices(self._strategy, config.batch_size, config.accumulate)
        self.config, self._given = config, model
        self._before = dict(before or {})
        # Options that do not affect the trained weights.
        _checks.check_choice("cache", cache, CACHES)
        self._how: dict[str, Any] = {"progress": progress, "resume": resume}
        self._how |= {"strategy": strategy, "checkpoint_steps": checkpoint_steps}
        self._how |= {"cache": cache, "trust": trust}
        self.network: keras.Model = None
        self.model: Any = None
        self.history: list[dict[str, float]] = []
        self._others: dict[str, Any] = {}
        self._folder: Path | None = None
        self._lock = ExitStack()

    @cached_property
    def dataset(self) -> Dataset:
        """The images of the run."""
        return open_dataset(**self.config.images)

    def build(self) -> keras.Model:
        """Returns the compiled network, built with its initial weights.

        A teacher and a first stage are trained first. `fit` loads the weights of
        `init`, because a resumed run does not need them.
        """
        with self._at_work():
            self._images.check()
            self._train_before()
            self._build()
        return self.network

    def fit(self) -> list[dict[str, float]]:
        """Trains from the newest checkpoint or the start; returns a row per epoch.

        Raises:
            NonFiniteLoss, ConnectionError, OSError, ValueError: As `train` does.
        """
        if self.network is None:
            self.build()
        with self._at_work():
            folder, config = self._lock_folder(), self.config
            history = _callbacks.HistoryWriter(
                folder / HISTORY_FILE, config, self._steps
            )
            callbacks = _callbacks.callbacks_of(
                *(config, self.network, history, folder),
                *(self._images.few, self._averages),
            )
            checkpoints = self._checkpoints_of(callbacks)
            position = self._start(checkpoints)
            self.history = history.rows
            self._log_start(position)
            self._train_on(callbacks, checkpoints, position)
            self.history = history.rows
            self._choose_weights(checkpoints)
        return self.history

    def save(self) -> Run:
        """Tests the network; writes and returns the finished run.

        Raises:
            RuntimeError: If nothing has been trained.
            OSError: If a file cannot be written.
            ModelError: If the saved network would compute something else, because a
                layer depends on what is in neither its weights nor its configuration.
                Repair the layer, and resume the run.
        """
        if not self.history:
            raise RuntimeError(
                "save() has nothing to write: the network is not trained. Call fit()."
            )
        with self._at_work():
            # A network of the user's own classes may not survive saving: try a copy.
            if self.config.model in TAKEN:
                _copies.copied(self.network)
            images, epoch = self._images, saved_epoch(self.config, self.history)
            more = {n: v.value for n, v in self._values.items() if n == "init"}
            record = _run_folder.write_record(
                *(self._lock_folder(), self.config, self.network, self.history),
                *(self._metrics(self.history[epoch - 1]), self.dataset.info),
                {**more, "kept_epoch": epoch},
                images.watched,
                self._others,
            )
            self._lock.close()
            self._folder = None
        return Run(self.output, self.network, self.history, record)

    def _run(self) -> Run:
        """Calls `build`, `fit` and `save`; resuming returns a finished run as it is."""
        if self._how["resume"] and _run_folder.is_finished(
            self.output, _run_folder.plain(self.config)
        ):
            return load_run(self.output, self._how["trust"])
        with self._at_work():
            if self._strategy.extended.should_checkpoint:
                _run_folder.check_output(*self._claim)
            # Before the folder is created, so that an error leaves no empty folder.
            self.build()
            self.fit()
            return self.save()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Handles signals, lost workers, unreadable images; unlocks after a failure."""
        with stoppable(), reading():
            try:
                yield
            except BaseException as error:
                _signals.in_step = False
                self._lock.__exit__(*sys.exc_info())
                self.network = self.model = self._folder = None
                self.history = []
                if isinstance(error, tf.errors.UnavailableError):
                    raise ConnectionError(_distribution.GONE) from error
                raise

    def _lock_folder(self) -> Path:
        """Locks the run folder if this worker writes; else makes a temporary one."""
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
        return self.output, settings, self._how["resume"]

    @property
    def _images(self) -> RunImages:
        dataset, cache = self.dataset, self._how["cache"]
        return RunImages(dataset, self.config, self._strategy, cache)

    def _train_before(self) -> None:
        """Trains the teacher and the first stage, if any, on the same images."""
        for name, config in runs_before(self.config).items():
            if name not in self._before:
                self._lock_folder()
                where: dict[str, Any] = {"output": self.output / name}
                where["before"] = self._before
                trainer = Trainer(config, self.dataset, **where, **self._how)
                self._before[name] = trainer._run().model

    def _build(self) -> None:
        """Builds the network with its initial weights, and the step that trains it."""
        config, stage1 = self.config, self._before.get("stage1")
        starts = self._given if config.model == GIVEN else config.init
        self._values: dict[str, CheckpointValue] = {}
        if starts is not None and stage1 is None:
            self._values["init"] = CheckpointValue()
        teacher = None
        if config.teacher is not None:
            teacher = self._open_teacher(config.teacher)
        keras.utils.set_random_seed(config.seed)
        self._batches = self._images.batches("train")
        check_micro_batches(self._batches, config.accumulate)
        self._steps = len(self._batches)
        with (
            dtype_policy(config.precision),
            _callbacks.own_generators(),
            self._strategy.scope(),
        ):
            info, trust = self.dataset.info, self._how["trust"]
            network = _network.build_network(config, info, trust, self._given)
            if stage1 is not None:
                _network.transfer(stage1, network, "stage1")
            else:
                _network.scale_latent_weights(network, config.latent_scale)
                if config.calibrate:
                    calibrate(network, self._images.few())
            optimizer = _network.optimizer_for(config, self._steps, network)
            _network.compile_network(network, optimizer)
            weights = averages = None
            if config.balance_classes:
                weights = balanced_weights(self.dataset.class_counts(config.limit))
            if config.ema is not None:
                averages = _callbacks.WeightAverages(network, config.ema)
            model = TrainingModel(
                *(network, config.accumulate, teacher, config.label_smoothing),
                *(weights, averages and averages.update, config.attention),
            )
            # The network's optimizer, which compiling has wrapped with a loss scale.
            _network.compile_network(model, network.optimizer)
        self.network, self.model, self._averages = network, model, averages

    def _open_teacher(self, name: str) -> Probabilities:
        """Returns the teacher's predict function; notes its digest for checkpoints."""
        trained = self._before.get("stage1" if name == CONSECUTIVE else "teacher")
        # A copy, so that all replicas use the same batch-norm statistics.
        with self._strategy.scope():
            trust = self._how["trust"]
            model = (
                _copies.copied(trained) if trained else open_model(name, trust=trust)
            )
        weights = b"".join(weight.tobytes() for weight in model.get_weights())
        self._values["teacher"] = CheckpointValue(
            hashlib.sha256(weights).hexdigest(),
            f"The teacher {name} has other weights than at the start of the run. "
            "Restore its file, or start another run.",
        )
        info, maps = self.dataset.info, bool(self.config.attention)
        wanted = info.image_shape, info.classes
        return _network.probabilities_of(model, name, *wanted, maps)

    def _checkpoints_of(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> Checkpoints:
        """Returns the checkpoint callback, which saves the states of all others."""
        stateful: dict[str, Any] = dict(self._values)
        within: dict[str, Any] = {"metrics": EpochMetrics(self.model)}
        for each in callbacks:
            if isinstance(each, _callbacks.HistoryWriter):
                stateful["journal"] = each
            elif hasattr(each, "get_state"):
                within[type(each).__name__] = each
        own: dict[str, Any] = {}
        for each in (x for x in self._own if hasattr(x, "get_state")):
            name = type(each).__name__
            own[f"{name} {sum(n.startswith(f'{name} ') for n in own)}"] = each
        alone = not _distribution.has_workers(self._strategy)
        every, info = self._how["checkpoint_steps"], self.dataset.info
        if every is None and not alone:
            every = sys.maxsize  # all workers take part, and their clocks differ
        save = partial(save_model, self.network, dataset=info if info.mean else None)
        validated = self._images.watched == "validation"
        return Checkpoints(
            *(self.output / CHECKPOINTS, stateful, within, every),
            writes=self._strategy.extended.should_checkpoint,
            averages=() if self._averages is None else self._averages.variables,
            best=partial(best_epoch, self.config) if validated else None,
            own=own,
            # One worker alone cannot write it: reading variables may need all of them.
            save=save if alone else None,
        )

    def _start(self, checkpoints: Checkpoints) -> Position:
        """Loads the newest checkpoint or the weights of `init`; returns a position."""
        position = checkpoints.restore(self.network)
        if position == START:
            with self._strategy.scope():
                if (init := self._values.get("init")) is not None:
                    how = self._how["trust"], self._given
                    init.value = _network.take_init(self.config, self.network, *how)
                if self._averages is not None:
                    self._averages.start()
        if position.steps == self._steps:  # stopped between last step and test
            position = position._replace(steps=position.steps - 1)
            self.model.skips_step = True
        self.model.first_step = position.steps
        return position

    def _log_start(self, position: Position) -> None:
        """Logs what is trained, or where it resumes; prints it if progress is True."""
        what = self.config, self.dataset, self.network, self._steps, self.output
        lines: Iterable[str] = first_lines(*what)
        if position != START:
            done = f"{position.epochs} epochs and {position.steps} steps"
            lines = [f"{self.output} resumes after {done}"]
        for line in lines:
            _start.info("%s", line)
            if self._how["progress"] is True:
                print(line)

    def _train_on(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        checkpoints: Checkpoints,
        position: Position,
    ) -> None:
        """Trains from a position to the end; does nothing if the training is over."""
        images, progress = self._images, self._how["progress"]
        split = images.watched
        watchers = [] if isinstance(progress, bool) else [progress]
        renamed = [_callbacks.TestMetrics()] * (split == "test")
        # `build` has made the batches of the start. They repeat for ever, so that Keras
        # uses one iterator for all epochs instead of one for each.
        batches = self._batches
        if position != START:
            batches = images.batches("train", position)
        validation = images.batches(split)
        check = StopCheck(not _distribution.has_workers(self._strategy))
        over = is_over(self.config, self.history)
        with explain_non_finite(
            self.config, self.network, check, checkpoints, images.batches
        ):
            self.model.fit(
                images.distributed(batches.repeat(), "train", position),
                steps_per_epoch=self._steps,
                epochs=position.epochs if over else self.config.epochs,
                initial_epoch=position.epochs,
                validation_data=images.distributed(validation, split),
                validation_steps=len(validation),
                callbacks=[
                    *(check, *renamed, *callbacks, *self._own),
                    *(*watchers, checkpoints),
                ],
                verbose=2 if progress is True else 0,  # 2: a line for each epoch
            )

    def _choose_weights(self, checkpoints: Checkpoints) -> None:
        """Gives the network the weights to save; notes those of best and last epoch.

        The network has the weights of the last epoch. They are not read from the last
        checkpoint, because another worker may still be writing it.
        """
        last = len(self.history)
        saved = saved_epoch(self.config, self.history)
        if self._images.watched == "validation":
            self._others = {"best": None, "last": None}
            best = best_epoch(self.config, self.history)
            if best < last == saved:
                self._others["best"] = checkpoints.weights_of(self.network, best)
            elif best < last:
                self._others["last"] = checkpoints.weights_of(self.network)
        if saved < last:
            checkpoints.restore_epoch(self.network, saved)
        if self._averages is not None:
            self._averages.swap()

    def _metrics(self, row: dict[str, float]) -> dict[str, float]:
        """Returns the metrics of the saved epoch, and those of the test images."""
        pairs = itertools.product(("", "val_", "test_"), ("loss", "accuracy"))
        names = [f"{prefix}{name}" for prefix, name in pairs]
        metrics = {name: row[name] for name in names if name in row}
        if self._images.watched == "test":
            return metrics
        tested = evaluate(self.network, self._images.batches("test"))
        del tested["examples"]
        return metrics | {f"test_{name}": float(n) for name, n in tested.items()}


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
    model: keras.Model | None = None,
) -> Run:
    """Trains a network, and writes and returns the run: a seed determines the weights.

    Its folder contains `model.keras`, `history.csv`, `run.json`, TensorBoard files
    under `logs/`, and `curves.png` if matplotlib is installed; with a validation split,
    also `best.keras` and `last.keras`, one of which equals `model.keras`. `stage1/` and
    `teacher/` are the run folders of a first stage and of a teacher. A checkpoint is
    written after each epoch, every ten minutes within one, and, unless several workers
    train, at Ctrl-C or SIGTERM; a stopped run resumes from the newest. `Trainer` does
    the same in single steps.

    Arguments:
        settings: What to train, and how.
        output: The run folder; it must not exist or be empty, unless it is resumed.
        progress: Whether to print a line for each epoch; or a Keras callback that is
            called instead, such as a progress bar, and must not change the weights.
        resume: Whether to resume an unfinished run of the same settings in `output`. A
            finished run is returned unchanged; if there is no run, one starts.
        strategy: `"none"`, `"mirrored"` over all GPUs of this machine, or
            `"multi_worker"` over the machines that the variable TF_CONFIG names.
        data: Your own images, as `larq_nobn.data.Dataset.from_data` takes or returns
            them. Arrays of bytes are normalized and augmented as a data set is; arrays
            of floats must be normalized. Each pass over a `tf.data.Dataset` is one
            epoch, used unchanged. The setting `dataset` becomes `"given"`. To resume,
            pass the same images; a `tf.data.Dataset` must then repeat its passes.
        checkpoint_steps: Steps between two checkpoints within an epoch; None writes
            one every ten minutes.
        cache: Where decoded images are cached, as in `larq_nobn.data.load`.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. Only for files of your own.
        wait: Seconds that a worker of `"multi_worker"` waits for the others.
        callbacks: Your own Keras callbacks, called after those of the run. Checkpoints
            contain what `get_state()` of a callback returns, as JSON; its `set_state`
            gets that back after `on_epoch_begin` of a resumed epoch. Trainings of
            `stage1` and `teacher` do not call them.
        model: Your own network, instead of one that the settings name: a functional
            classifier, which starts from its weights. A copy is trained, with a new
            classifier if the number of classes differs; `Run.model` is that copy. The
            setting `model` becomes `"given"`. To resume, pass the network again.

    Raises:
        FileExistsError: If `output` is not empty.
        FileNotFoundError: If the data set is not downloaded, or the network of `init`
            does not exist.
        RunInUse: If another process trains in `output`.
        ConnectionError: If another worker has stopped, or does not start in time.
        NonFiniteLoss: If the loss becomes infinite or NaN; the message says where.
        OSError: If an image can no longer be read; the message names it.
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
        model=model,
    )._run()
