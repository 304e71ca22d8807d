"""What happens around the steps: losses to metrics.jsonl and TensorBoard, checkpoints, evaluations, the ends of a run.

A run ends in one of three ways, which `Losses.status` tells: "finished", "diverged" (a loss that is not finite) or
"stopped" (by a signal, state saved).
"""

import sys
import time

import numpy as np
import tensorflow as tf
from tensorpack.callbacks import Callback, ModelSaver, TFEventWriter
from tensorpack.train import StopTraining

from maskrcnn.detections import coco_metrics
from maskrcnn.evaluate import detect_dataset

tfv1 = tf.compat.v1


def log(text):
    print(text, file=sys.stderr, flush=True)


class Progress(Callback):
    """How far the run has come, kept in a variable so that a checkpoint holds it together with the weights.

    wall: seconds in the training loop; seconds: those spent in steps; images: drawn in these steps by all ranks;
    window: the same two for the steps since the last line of metrics.jsonl, then their number and summed losses.
    """

    _chief_only = False

    def __init__(self, losses):
        self._n = losses

    def _setup_graph(self):
        size = 6 + self._n
        with tfv1.variable_scope(tfv1.VariableScope(reuse=False, name="")):
            self._variable = tfv1.get_variable(
                "progress", [size], tf.float64, tfv1.initializers.zeros(), trainable=False
            )
        self._value = tfv1.placeholder(tf.float64, [size])
        self._store = self._variable.assign(self._value).op

    def _before_train(self):
        # A run of the graph for the first time takes a while: at the start the variable is known to be zero.
        state = tfv1.get_default_session().run(self._variable) if self.global_step else np.zeros(6 + self._n)
        self._wall_before, self.seconds, self.images, self._win_seconds, self._win_images, self._steps = state[:6]
        self._sums = state[6:].copy()
        self._start = time.monotonic()

    @property
    def wall(self):
        return self._wall_before + time.monotonic() - self._start

    @property
    def img_per_s(self):
        return self.images / self.seconds if self.seconds else 0.0

    def add(self, losses, images, seconds, warm):
        """One step more; a step that is not `warm` (the first of a process) does not count for the speed of the run."""
        self._sums += losses
        self._steps += 1
        self._win_images += images
        self._win_seconds += seconds
        if warm:
            self.images += images
            self.seconds += seconds

    def take_window(self):
        """The mean losses and the images a second since the last call."""
        means, speed = self._sums / self._steps, self._win_images / self._win_seconds
        self._sums = np.zeros_like(self._sums)
        self._steps = self._win_images = self._win_seconds = 0
        return means, speed

    def store(self):
        """Puts the state into the variable, for the checkpoint that is about to be written."""
        head = [self.wall, self.seconds, self.images, self._win_seconds, self._win_images, self._steps]
        tfv1.get_default_session().run(self._store, {self._value: np.concatenate([head, self._sums])})


class Losses(Callback):
    """Feeds the step and reads the losses of every step, averaged over the ranks; decides whether to go on.

    `names` and `report` [n + 1]: the losses, total first, and then whether some rank wants to stop. Ranks decide on
    the averaged report alone, so all of them stop after the same step.
    """

    _chief_only = False

    def __init__(self, step, stop, names, report, config, ranks, progress, checkpoint, metrics, stop_code):
        self._step, self._stop = step, stop  # placeholders: int32 and float32 scalars
        self._names, self._report = names, report
        self._config, self._ranks = config, ranks
        self._progress, self._checkpoint = progress, checkpoint
        self._metrics = metrics  # a MetricsFile; None on the ranks that write nothing
        self._stop_code = stop_code  # () -> exit code when asked to stop, else None
        self.status = None
        self._warm = False

    def _before_run(self, _):
        self._began = time.monotonic()
        feed = {self._step: self.global_step, self._stop: float(self._stop_code() is not None)}
        return tfv1.train.SessionRunArgs(self._report, feed)

    def _after_run(self, _, values):
        self._losses, self._stopping = values.results[:-1].astype(np.float64), values.results[-1] > 0
        seconds = time.monotonic() - self._began
        self._progress.add(self._losses, self._config.batch * self._ranks, seconds, self._warm)
        self._warm = True

    def _trigger_step(self):
        if not np.isfinite(self._losses[0]):
            self._end("diverged", f"step {self.global_step}: the loss is {self._losses[0]}; the run has diverged")
        last = self.global_step == self._config.steps
        if last or self.global_step % self._config.log_every == 0:
            self._write()
        # A single process looks again: there is nobody to agree with.
        if (self._stopping or (self._ranks == 1 and self._stop_code() is not None)) and not last:
            if self._checkpoint is not None:
                self._checkpoint.trigger()
            self._end("stopped", f"step {self.global_step}: asked to stop; saved")

    def _trigger_epoch(self):
        self.status = "finished"

    def _end(self, status, message):
        self.status = status
        if self._metrics is not None:
            log(message)
        raise StopTraining(status)

    def _write(self):
        means, speed = self._progress.take_window()
        if self._metrics is None:
            return
        losses = dict(zip(self._names, means))
        for name, value in {**losses, "img_per_s": speed}.items():
            self.trainer.monitors.put_scalar(name, value)
        steps, wall = self._config.steps, self._progress.wall
        rounded = {name: float(f"{value:.6g}") for name, value in {**losses, "img_per_s": speed}.items()}
        self._metrics.append({"step": self.global_step, "steps": steps, "wall": round(wall, 2), **rounded})
        parts = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        log(f"step {self.global_step}/{steps}  {parts}  {speed:.1f} img/s  {wall:.0f} s")


class Checkpoint(ModelSaver):
    """Saves every `save_every` steps and at the end; unlike its base class it lets the errors of a full disk out."""

    def __init__(self, folder, save_every, progress):
        super().__init__(max_to_keep=2, keep_checkpoint_every_n_hours=10**6, checkpoint_dir=str(folder))
        self._every, self._progress = save_every, progress
        self._saved = None

    @property
    def newest(self):
        """The path of the last one, as TensorFlow names it."""
        return f"{self.path}-{self._saved}"

    def _before_train(self):  # the base class writes the graph, which takes longer than all else
        self._saved = self.global_step or None

    def _trigger_step(self):
        if self.global_step % self._every == 0:
            self.trigger()

    def _trigger(self):
        if self.global_step == self._saved:
            return
        self._progress.store()
        self.saver.save(
            tfv1.get_default_session(), self.path, global_step=tfv1.train.get_global_step(), write_meta_graph=False
        )
        self._saved = self.global_step


class Events(TFEventWriter):
    """TensorBoard events, without the graph: writing that would take longer than a short run's start."""

    def _before_train(self):
        pass


class Evaluation(Callback):
    """Scores the validation images every `eval_every` steps and at the end; `metrics` holds the last scores."""

    def __init__(self, dataset, detector, config, progress, checkpoint, metrics, signals, ranks):
        self._dataset, self._detector, self._config = dataset, detector, config
        self._progress, self._checkpoint, self._file = progress, checkpoint, metrics
        self._signals, self._ranks = signals, ranks
        self.metrics = {}

    def _before_train(self):
        # A run that was killed during an evaluation has its checkpoint already: made up for here.
        if 0 < self.global_step < self._config.steps:
            self._trigger_step()

    def _trigger_step(self):
        every = self._config.eval_every
        due = every and self.global_step % every == 0 and self.global_step != self._config.steps
        if due and not self._file.evaluated(self.global_step):
            self._checkpoint.trigger()
            if self._ranks == 1:
                with self._signals.at_once():
                    self._evaluate()
            else:  # the other ranks are waiting for this one
                self._evaluate()

    def _trigger_epoch(self):
        with self._signals.at_once():
            self._evaluate()

    def _evaluate(self):
        began = time.monotonic()
        self._detector.load(self._checkpoint.newest)
        detections = detect_dataset(self._detector, self._dataset, self._config)
        self.metrics = {name: round(float(v), 5) for name, v in coco_metrics(self._dataset, detections).items()}
        for name, value in self.metrics.items():
            self.trainer.monitors.put_scalar(name, value)
        wall = round(self._progress.wall, 2)
        self._file.append({"step": self.global_step, "steps": self._config.steps, "wall": wall, **self.metrics})
        scores = "  ".join(f"{k} {v:.3f}" for k, v in self.metrics.items() if k in ("bbox/AP", "segm/AP"))
        log(f"step {self.global_step}/{self._config.steps}  {scores}  (evaluated in {time.monotonic() - began:.1f} s)")
