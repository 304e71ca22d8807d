"""TensorFlow in graph mode, imported once and quietly: everything that trains or predicts imports this module first."""

import gc
import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what the C++ side prints while it is loaded

# Collecting garbage while modules are loaded finds none, and takes a quarter of the time that TensorFlow's take.
gc.disable()
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import rewriter_config_pb2  # noqa: E402

tf.get_logger().setLevel(logging.ERROR)
tfv1 = tf.compat.v1
# Graphs and sessions, and nothing else of version 1: shapes are plain numbers, == compares tensors, and variables are
# resources, which a step reads as they were when it began (a reference variable may be seen half updated).
tfv1.disable_eager_execution()
# Per-image pieces are functions within the graph. Rewriting the graph for speed stops at them: it would double the time
# to the first step for a few percent of the steps after it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
if not tf.config.list_physical_devices("GPU"):
    # Without this the gradient of crop_and_resize is added up by several threads at once, and additions get lost.
    # (On a GPU that gradient uses atomic additions, and has no deterministic form.)
    tf.config.experimental.enable_op_determinism()

from tensorpack.tfutils.sesscreate import NewSessionCreator  # noqa: E402 - asks at import which mode this is

gc.freeze()
gc.enable()


class _WellFormed(logging.Filter):
    """Keeps out messages whose arguments do not fit: tensorpack has one that prints a traceback of its own."""

    def filter(self, record):
        return not record.args or "%" in record.msg


_tensorpack = logging.getLogger("tensorpack")
_tensorpack.setLevel(logging.ERROR)  # its progress messages are for another kind of program
_tensorpack.addFilter(_WellFormed())
for _handler in _tensorpack.handlers:
    _handler.setStream(sys.stderr)


def threads():
    """How many threads to compute with: OMP_NUM_THREADS, or else every core this process may use."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isdigit() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def session_config(threads):
    """A ConfigProto for that many threads."""
    config = tfv1.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=threads,
        gpu_options=tfv1.GPUOptions(allow_growth=True),
    )
    # Of what rewrites the graph, this alone is left out: it saves no memory here and prints a page of warnings.
    config.graph_options.rewrite_options.memory_optimization = rewriter_config_pb2.RewriterConfig.NO_MEM_OPT
    # And a second round of rewriting finds nothing that is worth its second.
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    return config


class _SessionCreator(NewSessionCreator):
    """Initialises in one run. Its base class takes three, for variables, local ones and tables, each of which goes
    through the whole graph; there are no tables here."""

    def create_session(self):
        session = tfv1.Session(config=self.config)
        session.run(tf.group(tfv1.global_variables_initializer(), tfv1.local_variables_initializer()))
        return session


def session_creator(threads):
    """A tensorpack session creator for that many threads."""
    creator = _SessionCreator()
    creator.config = session_config(threads)  # given to the constructor, it warns of faults of old TensorFlows
    return creator
