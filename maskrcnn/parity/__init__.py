"""Does a piece's batched form compute what its per-image form computes? Asked in seconds, without training.

Both forms get the same random inputs in named cases (cases.py). Values are held against plain numpy in float64
(references.py), gradients against one another and against differences of that numpy; pieces that draw at random are
held against the distribution they should have (sampling.py, pipeline.py). deterministic.py does the comparing,
engine.py the whole, report.py tells it. cases.py, references.py and statistics.py are free of TensorFlow.
"""
