"""Training by several processes with Horovod: the part that runs in each of them."""

import os
import socket
from pathlib import Path

import horovod.tensorflow as hvd
import tensorflow as tf
from tensorpack.train import HorovodTrainer
from tensorpack.train.tower import SingleCostTrainer

from maskrcnn.horovod_run import LAUNCHER, LAUNCHER_HOST, STOP_FILE

tfv1 = tf.compat.v1


class Ranks:
    """This process among its equals. Gradients and reported losses are means over all ranks; rank 0 is the only one
    that writes."""

    def __init__(self):
        hvd.init()
        self.rank, self.size = hvd.rank(), hvd.size()

    def trainer(self, threads):
        return Trainer(threads)

    def mean(self, tensor):
        return hvd.allreduce(tensor, op=hvd.Average, name="report")

    def stop_code(self, signals):
        """A function that tells whether this rank was asked to stop: the exit code, else None.

        The launcher asks through a file, because horovodrun kills its processes five seconds after a signal. A
        launcher that was itself killed counts as asking.
        """
        stop_file, launcher = Path(os.environ[STOP_FILE]), int(os.environ[LAUNCHER])
        local = os.environ[LAUNCHER_HOST] == socket.gethostname()

        def code():
            if signals.exit_code is None:
                try:
                    signals.exit_code = int(stop_file.read_text())
                except FileNotFoundError:
                    if local and not _alive(launcher):
                        signals.exit_code = 143
            return signals.exit_code

        return code


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Trainer(HorovodTrainer):
    """tensorpack's trainer for Horovod, whose `initialize` calls a function that TensorFlow 2 no longer has."""

    def __init__(self, threads):
        super().__init__()
        self.BROADCAST_EVERY_EPOCH = False  # the variables are in step, since their gradients are
        self._threads = threads

    def allreduce(self, grads):
        return [(self.hvd.allreduce(grad, op=self.hvd.Average), var) for grad, var in grads]

    def initialize(self, session_creator, session_init):
        self._num_global_variables = len(tfv1.global_variables())
        self._broadcast_op = self.hvd.broadcast_global_variables(0)
        session_creator.config.gpu_options.visible_device_list = str(self._local_rank)
        SingleCostTrainer.initialize(self, session_creator, session_init)
        self.sess.run(self._broadcast_op)
