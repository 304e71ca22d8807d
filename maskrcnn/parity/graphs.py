"""Both implementations of one piece in a graph of their own, fed by placeholders: any batch of one size goes through
it.
"""

import hashlib
from typing import NamedTuple

from maskrcnn.tf1 import session_config, tfv1, threads

# isort: split
import numpy as np
import tensorflow as tf

from maskrcnn.structures import GroundTruth, Rois

FORMS = ("nobatch", "batched")


class Results(NamedTuple):
    """What an implementation gave: lists of arrays; `cotangents` are what its float outputs were multiplied by."""

    values: list
    gradients: list
    cotangents: list


class Failure(NamedTuple):
    """An implementation that could not be built or run."""

    message: str


class PieceGraph:
    """`forms` {"nobatch" and "batched": function}, each with every keyword set of `paths` (a list of dicts).

    `args` are those of any batch of `b` images. Shapes are as in training: static in the batch size and the channels,
    open otherwise. A gradient is that of the sum of the float outputs, each times a random cotangent, with respect to
    every float input and then to every trainable variable.
    """

    def __init__(self, forms, paths, config, args, b, seeded=False):
        self._graph = tf.Graph()
        self.outputs, self._built = {}, {}
        with self._graph.as_default():
            self._hw = tfv1.placeholder(tf.int32, [b, 2])
            self._args = tuple(_placeholders(arg, b) for arg in args)
            self._cotangent_seed = tfv1.placeholder(tf.int32, [2])
            self._seed = tfv1.placeholder(tf.int32, [2]) if seeded else None
            for form in FORMS:
                for i, path in enumerate(paths):
                    keywords = {**path, "seed": self._seed} if seeded else path
                    self._built[form, i] = self._build(form, forms[form], config, keywords)
            self._variables = tfv1.trainable_variables()
            for key, value in self._built.items():
                self.outputs[key] = value if isinstance(value, Failure) else self._differentiate(value)
            options = session_config(threads())
            # Every graph runs a few times only: rewriting it would take longer than running it.
            options.graph_options.rewrite_options.disable_meta_optimizer = True
            self._session = tfv1.Session(config=options)
            self._session.run(tfv1.global_variables_initializer())

    def _build(self, form, function, config, keywords):
        try:
            return function(self._hw, *self._args, config=config, **keywords)
        except Exception as e:  # a function of the user's own may fail in any way: that is a finding, not a crash
            if form == "nobatch":
                raise
            return Failure(_first_line(e))

    def _differentiate(self, value):
        values = [v for v in tf.nest.flatten(value) if v is not None]
        floats = [v for v in values if v.dtype.is_floating]
        cotangents = [
            tf.random.stateless_normal(tf.shape(v), self._cotangent_seed + [0, k], dtype=v.dtype)
            for k, v in enumerate(floats)
        ]
        sources = [t for t in tf.nest.flatten(self._args) if t is not None and t.dtype.is_floating]
        sources += self._variables
        found = tfv1.gradients(floats, sources, cotangents)
        gradients = [tf.zeros_like(s) if g is None else tf.convert_to_tensor(g) for s, g in zip(sources, found)]
        return Results(values, gradients, cotangents)

    def weights(self):
        """{name: shape} of the variables of both implementations."""
        return {v.op.name: tuple(v.shape) for v in self._variables}

    def load(self, weights):
        """Sets the variables to arrays {name: array}."""
        for v in self._variables:
            v.load(weights[v.op.name], self._session)

    def run(self, hw, args, cotangent_seed=(0, 0), seed=None, only_values=False):
        """{(form, index of path): Results or Failure} for one batch."""
        feed = {self._hw: hw, self._cotangent_seed: cotangent_seed}
        if self._seed is not None:
            feed[self._seed] = seed
        for placeholder, array in zip(tf.nest.flatten(self._args), tf.nest.flatten(args)):
            if placeholder is not None:
                feed[placeholder] = array
        wanted = {k: v.values if only_values else v for k, v in self.outputs.items() if isinstance(v, Results)}
        failed = {k: v for k, v in self.outputs.items() if isinstance(v, Failure)}
        try:
            return {**failed, **self._session.run(wanted, feed)}
        except tf.errors.OpError:  # one of them: which?
            found = dict(failed)
            for key, tensors in wanted.items():
                try:
                    found[key] = self._session.run(tensors, feed)
                except tf.errors.OpError as e:
                    if key[0] == "nobatch":
                        raise
                    found[key] = Failure(_first_line(e))
            return found

    def same_computation(self):
        """Whether both implementations are the same graph, names aside: then the flag most likely changes nothing.

        It is enough to look at the piece, between the same placeholders, for a flag replaces no other part of the
        model: if both implementations make their outputs of their inputs by equal operations, then so do the whole
        graphs, of training and of evaluation, with their gradients. It is no proof for every training, as a piece may
        depend on sizes that are not looked at here, or on the first values of its weights.
        """
        digests = _digests(self._graph)

        def digest(key):
            result = self.outputs[key]
            if isinstance(result, Failure):
                return None
            return [_of_tensor(digests, t) for t in (*result.values, *result.gradients)]

        return all(digest(("nobatch", i)) == digest(("batched", i)) for form, i in self.outputs if form == "batched")


def _first_line(error):
    message = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {(message.strip().splitlines() or [''])[0][:200]}"


def _placeholders(arg, b):
    """A placeholder for every array of an argument, in the same structure; None stays."""
    if arg is None:
        return None
    if isinstance(arg, (Rois, GroundTruth)):
        per_image = isinstance(arg, GroundTruth)
        fields = {
            name: None if a is None else _open(a, [b if per_image or name == "counts" else None], np.ndim(a))
            for name, a in arg._asdict().items()
        }
        fields["boxes"].set_shape([None] * (np.ndim(arg.boxes) - 1) + [arg.boxes.shape[-1]])
        return type(arg)(**fields)
    if isinstance(arg, tuple) and not hasattr(arg, "_fields"):  # a pyramid
        return tuple(tf.nest.map_structure(lambda a: _open(a, [b, None, None], 3), level) for level in arg)
    return tf.nest.map_structure(lambda a: _open(a, [None], 1), arg)


def _open(array, first, n):
    """A placeholder like `array`: its axes are `first`, open up to axis n, and as in `array` beyond."""
    shape = [*first, *[None] * (n - len(first)), *array.shape[n:]]
    return tfv1.placeholder(array.dtype, shape)


def _digests(graph):
    """{operation: a hash of its type, attributes and inputs} of a whole graph, whatever its operations are called.

    Placeholders and variables are distinguished by name: these are the same for both implementations.
    """
    library = {f.signature.name: f for f in graph.as_graph_def().library.function}
    functions, found = {}, {}
    for op in graph.get_operations():  # in the order of their making: inputs come first
        text = [_of_node(op.node_def, library, functions)]
        if op.type in ("Placeholder", "VarHandleOp"):
            text.append(op.name)
        text += [_of_tensor(found, t) for t in op.inputs]
        text += sorted(found.get(c, c.name) for c in op.control_inputs)
        found[op] = _hash(text)
    return found


def _of_node(node, library, functions):
    """An operation's type and attributes; a function among them counts by what it does, not by its name."""
    text = [node.op]
    for key in sorted(node.attr):
        if key.startswith("_"):  # where and how to run it
            continue
        value = node.attr[key]
        called = [f.name for f in (value.func, *value.list.func) if f.name]
        text += [key, *(_of_function(name, library, functions) for name in called)]
        if not called:
            text.append(value.SerializeToString(deterministic=True).hex())
    return _hash(text)


def _of_function(name, library, functions):
    if name not in library:
        return name
    if name not in functions:
        function = library[name]
        found = {arg.name: f"argument {i}" for i, arg in enumerate(function.signature.input_arg)}

        def source(tensor):  # "argument", "node:output:0" or "^node"
            node, _, output = tensor.lstrip("^").partition(":")
            return f"{found.get(node, node)}:{output}"

        for node in function.node_def:
            found[node.name] = _hash([_of_node(node, library, functions), *map(source, node.input)])
        functions[name] = _hash([source(function.ret[arg.name]) for arg in function.signature.output_arg])
    return functions[name]


def _hash(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _of_tensor(digests, tensor):
    return f"{digests.get(tensor.op, tensor.name)}:{tensor.value_index}"
