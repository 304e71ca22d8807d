"""One training run: tensorpack carries the data flow, the loop, the checkpoints and the events."""

import dataclasses
import platform

import numpy as np

from maskrcnn.tf1 import session_creator, tfv1, threads

# isort: split
import cv2
import tensorflow as tf
from tensorpack.dataflow import DataFlow, DataFlowTerminated
from tensorpack.input_source import QueueInput
from tensorpack.predict import OfflinePredictor, PredictConfig
from tensorpack.tfutils.sessinit import DictRestore, JustCurrentSession, SaverRestore
from tensorpack.tfutils.tower import get_current_tower_context
from tensorpack.train import SimpleTrainer

from maskrcnn import optimizer, weights
from maskrcnn.callbacks import Checkpoint, Evaluation, Events, Losses, Progress, log
from maskrcnn.components import implementations
from maskrcnn.config import for_inference
from maskrcnn.data import coco
from maskrcnn.errors import UserError
from maskrcnn.evaluate import INPUT_NAMES, OUTPUT_NAMES
from maskrcnn.inputs import specs, unpack
from maskrcnn.key import joined, key
from maskrcnn.model import MaskRCNN
from maskrcnn.runfolder import MetricsFile
from maskrcnn.settings import data_folder
from maskrcnn.version import package_version

PREFETCH = 4  # batches waiting in the queue


def train(settings, folder, signals, ranks=None):
    """Trains as `settings` say in `folder` (a RunFolder), from its newest checkpoint on; returns the exit code.

    `signals` is a StopSignals, `ranks` a horovod_trainer.Ranks or None for a single process. Raises UserError.
    """
    chief = ranks is None or ranks.rank == 0
    if settings.config.mixed_precision and not _gpus():
        raise UserError("mixed_precision=true needs a GPU, and TensorFlow finds none here; leave it out.")
    data = data_folder(settings)
    dataset, validation = coco.load(data, "train"), coco.load(data, "val")
    config = dataclasses.replace(settings.config, classes=len(dataset.category_names))
    if chief:
        own_key = joined((folder.run() or {}).get("key"), key(settings))  # now: the code may change while it runs
        folder.write_run(
            settings,
            batch=config.batch,
            categories=list(dataset.category_names),
            key=own_key,
            code_version=own_key["code"],
            version=package_version(),
        )
    checkpoint_path = tfv1.train.latest_checkpoint(str(folder.checkpoints)) if folder.checkpoints.exists() else None
    first_step = int(tfv1.train.load_variable(checkpoint_path, "global_step")) if checkpoint_path else 0
    if chief:
        log(
            f"resuming after step {first_step} of {config.steps} in {folder.path}"
            if first_step
            else f"training for {config.steps} steps in {folder.path}"
        )

    cv2.setNumThreads(threads())
    tfv1.set_random_seed(settings.seed)
    trainer = SimpleTrainer() if ranks is None else ranks.trainer(threads())
    creator = session_creator(threads())
    tower = Tower(config, implementations(settings.flags, settings.plants()), ranks)
    flow = Flow(_pipeline(tower.pieces, dataset, config, settings.seed, first_step, ranks))
    trainer.setup_graph(
        signature(config),
        QueueInput(flow, tfv1.FIFOQueue(PREFETCH, [tf.as_dtype(s.dtype) for s in specs(config)], name="input_queue")),
        tower,
        lambda: optimizer.build(config, optimizer.learning_rate(config, tower.step)),
    )

    n_ranks = 1 if ranks is None else ranks.size
    stop_code = (lambda: signals.exit_code) if ranks is None else ranks.stop_code(signals)
    metrics = MetricsFile(folder.metrics) if chief else None
    progress = Progress(len(tower.names))
    checkpoint = evaluation = None
    if chief:
        checkpoint = Checkpoint(folder.checkpoints, config.save_every, progress)
        detector = Detector(tower, creator)
        evaluation = Evaluation(validation, detector, config, progress, checkpoint, metrics, signals, n_ranks)
        folder.events.mkdir(exist_ok=True)
    losses = Losses(
        tower.step, tower.stop, tower.names, tower.report, config, n_ranks, progress, checkpoint, metrics, stop_code
    )
    with signals.deferred():
        trainer.train(
            callbacks=[c for c in (progress, losses, checkpoint, evaluation) if c is not None],
            monitors=[Events(str(folder.events), flush_secs=10)] if chief else [],
            session_creator=creator,
            session_init=_initial_weights(checkpoint_path, config) if chief else JustCurrentSession(),
            # tensorpack's epoch is the whole rest of the run: what comes periodically goes by the global step.
            steps_per_epoch=config.steps - first_step,
            max_epoch=1,
        )
    if flow.error is not None:
        raise flow.error
    if losses.status is None:
        raise RuntimeError(f"the training loop ended after step {trainer.global_step} for no known reason")
    if losses.status == "stopped":
        return stop_code()
    if chief:
        folder.write_result(
            {
                "status": losses.status,
                "step": trainer.global_step,
                "steps": config.steps,
                "metrics": evaluation.metrics if losses.status == "finished" else {},
                "img_per_s": round(progress.img_per_s, 3),
                "wall": round(progress.wall, 2),
                **settings.to_json(),
                "config": dataclasses.asdict(config),
                "batch": config.batch,
                "hardware": hardware(),
                "key": own_key,
                "code_version": own_key["code"],
            }
        )
    return 0


class Tower:
    """The tower function of the model, for training and for prediction.

    Called for training it returns the total loss and leaves behind `step` and `stop` (placeholders), `names` of the
    losses and `report`, their values with `stop` at the end, averaged over the ranks.
    """

    def __init__(self, config, pieces, ranks=None):
        self.config, self.pieces, self._ranks = config, pieces, ranks

    def __call__(self, *tensors):
        batch = unpack(tensors)
        if not get_current_tower_context().is_training:
            found = MaskRCNN(for_inference(self.config), self.pieces).detect(batch.images)
            outputs = (found.rois.boxes, found.rois.counts, found.rois.labels, found.scores, found.masks)
            for name, tensor in zip(OUTPUT_NAMES, outputs):
                tf.identity(tensor, name=name)
            return None
        # tensorpack adds one to its own step counter while the step runs: read there, it might be either number.
        self.step = tfv1.placeholder(tf.int32, [], "step")
        self.stop = tfv1.placeholder(tf.float32, [], "stop")
        losses = MaskRCNN(self.config, self.pieces).losses(batch, self.step)
        total = tf.add_n(list(losses.values()), name="total_loss")
        self.names = ["total_loss", *losses]
        self.report = tf.stack([total, *losses.values(), self.stop])
        if self._ranks is not None:
            self.report = self._ranks.mean(self.report)
        return total


def signature(config):
    """The tensorpack input signature: a TensorSpec for every array of a step."""
    return [tf.TensorSpec(s.shape, tf.as_dtype(s.dtype), s.name) for s in specs(config)]


class Flow(DataFlow):
    """A DataFlow that keeps what went wrong in it; tensorpack would print it and end the training as if finished."""

    def __init__(self, flow):
        self._flow = flow
        self.error = None

    def reset_state(self):
        self._flow.reset_state()

    def __iter__(self):
        try:
            yield from self._flow
        except Exception as e:
            self.error = e
            raise DataFlowTerminated from None


def _pipeline(pieces, dataset, config, seed, first_step, ranks):
    """The DataFlow of this rank: every rank draws from its own share of the images, with its own seed."""
    if ranks is not None and ranks.size > 1:
        share = dataset.records[ranks.rank :: ranks.size]
        if not share:
            raise UserError(f"--np {ranks.size}: more ranks than training images ({len(dataset.records)}).")
        dataset = dataclasses.replace(dataset, records=share)
        seed = int(np.random.SeedSequence([seed, ranks.rank]).generate_state(1)[0] >> 1)
    return pieces["DATA_PIPELINE"](dataset, config, seed, first_step)


def _initial_weights(checkpoint_path, config):
    if checkpoint_path:
        return SaverRestore(checkpoint_path)
    return DictRestore(weights.load(config.weights, config)) if config.weights else JustCurrentSession()


class Detector:
    """The model for inference, with the weights of a checkpoint: the `predict` of `maskrcnn.evaluate`.

    Its graph is its own and built when first needed: a run pays for it with its first evaluation, not before its first
    step.
    """

    def __init__(self, tower, creator):
        self._tower, self._creator = tower, creator
        self._predictor = None

    def load(self, path):
        """Takes over the weights of a checkpoint."""
        weights = SaverRestore(path)
        if self._predictor is not None:
            with self._predictor.graph.as_default():
                weights.init(self._predictor.sess)
            return
        self._predictor = OfflinePredictor(
            PredictConfig(
                tower_func=self._tower,
                input_signature=signature(self._tower.config),
                input_names=INPUT_NAMES,
                output_names=OUTPUT_NAMES,
                session_creator=self._creator,
                session_init=weights,
            )
        )

    def __call__(self, pixels, hw):
        return self._predictor(pixels, hw)


def predictor(folder):
    """(Detector, config) of the newest checkpoint in `folder` (a RunFolder).

    Raises UserError where there is no checkpoint.
    """
    settings = folder.settings()
    path = tfv1.train.latest_checkpoint(str(folder.checkpoints))
    if path is None:
        raise UserError(f"{folder.path}: no checkpoint yet; let the run reach its first one.")
    config = dataclasses.replace(settings.config, classes=len(folder.run()["categories"]))
    detector = Detector(Tower(config, implementations(settings.flags, settings.plants())), session_creator(threads()))
    detector.load(path)
    return detector, config


def hardware():
    """What the run was made on."""
    return {
        "cpu": _cpu_model(),
        "threads": threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "gpus": [tf.config.experimental.get_device_details(g).get("device_name", g.name) for g in _gpus()],
    }


def _gpus():
    return tf.config.list_physical_devices("GPU")


def _cpu_model():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.partition(":")[2].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
