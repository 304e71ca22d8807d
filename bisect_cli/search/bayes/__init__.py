"""The search that weighs explanations: after every run the exact posterior, and next the most informative run.

  1. For every metric, the posterior over what may break it (`hypotheses`, `prior`, `posterior`).
  2. First run: the baseline, and the whole set beside it where slots are free. Then the subset with the most expected
     information, summed over the metrics whose search is not over (`information`, `candidates`), plus what is saved if
     a confirmation will need it anyway (`worth`). That may be the baseline. All free slots are filled that way, each
     given the runs in flight (`planner`).
  3. A metric is settled when one hypothesis is likely enough to be named (`metric`), and runs that it could be named
     without confirm it: each culprit alone is broken, and the set without the culprits is fine (`confirmation`). That
     nothing breaks takes two runs of the whole set: both culprits of 2019 had first been recorded as converging.
  4. If no hypothesis fits, it says so: subsets whose verdict contradicts the best one are run again. If that does not
     help, the metric is taken apart by `halving`, which assumes nothing but that runs can be repeated
     (`metric_search`).
Runs that crash say nothing about a metric, except where all runs of one flag crash: see `crashes`.
Where flags need others, only runnable subsets are candidates (`candidates`), explanations that agree on all of these
are one (`hypotheses`), and a culprit is confirmed with what it needs, the rest without what needs it (`confirmation`).

Shapes in all files: H hypotheses, n flags, C subsets, K grid points, that is parameters (noise, drop, ...) which may be
true of a metric.
"""

from bisect_cli.search import Search
from bisect_cli.search.bayes.planner import answer

SEARCH = Search("bayes", answer, uses_prior_evidence=True, weighs_explanations=True)
