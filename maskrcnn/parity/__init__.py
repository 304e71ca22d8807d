"""Does a piece's batched implementation compute what its per-image implementation computes? Asked in seconds, without
training.

Both implementations get the same random inputs in named cases (cases.py). Values are held against plain numpy in
float64 (references.py), gradients against one another and against differences of that numpy; pieces that draw at random
are held against the distribution they should have (sampling.py, pipeline.py). deterministic.py does the comparing,
engine.py the whole, report.py tells it. cases.py, references.py and statistics.py are free of TensorFlow.
"""
