"""What is known of one metric: its verdicts, and the posterior over what may break it."""

from bisect_cli.campaign import subsets
from bisect_cli.evidence.judge import CRASHED
from bisect_cli.search import Belief
from bisect_cli.search.bayes import prior
from bisect_cli.search.bayes.posterior import collect, ranked, weigh

NAMING_PROBABILITY = 0.985  # of the hypothesis named; drops near the smallest are named wrongly more often than others
SUFFICIENT_PROBABILITY = 0.9  # ... or, with that confidence stated, if no further run is informative
BELIEFS_SHOWN = 5
LEAST_SHOWN = 0.001  # probability of a belief


class Metric:
    """Of one metric: everything that its runs so far say.

    flags: those that can be trained. needs: as in Question. table: {subset: Verdict}. tried: the subsets whose verdicts
    are evidence; a crash is none. culprits: of the likeliest explanation, and probability: that of this explanation.
    """

    def __init__(self, question, name, flags):
        self.flags, self.needs, self.table = flags, question.needs, question.verdicts[name]
        self.tried = [subset for subset in self.table if subset and self._is_evidence(subset)]
        self.evidence = collect(flags, self.table, self.tried)
        self.posterior = weigh(prior.expect(question, name, flags), self.evidence)
        self.culprits = self.explanation(self.posterior.best)
        self.probability = float(self.posterior.probability[self.posterior.best])

    def _is_evidence(self, subset):
        if self.table[subset].call == CRASHED or not set(subset) <= set(self.flags):
            return False
        return subsets.is_runnable(subset, self.needs)

    @property
    def can_be_named(self):
        return self.probability >= NAMING_PROBABILITY

    @property
    def is_sufficient(self):
        return self.probability >= SUFFICIENT_PROBABILITY

    @property
    def runs(self):
        """All that are evidence, the baseline's aside."""
        return sum(self.table[subset].runs for subset in self.tried)

    def explanation(self, number):
        """The culprits of a hypothesis, as tuples of flags."""
        return tuple(tuple(self.flags[i] for i in one) for one in self.posterior.family.culprits(number))

    def likeliest(self, most):
        """The likeliest explanations, as Beliefs."""
        probability = self.posterior.probability
        return tuple(Belief(self.explanation(i), float(probability[i])) for i in ranked(probability)[:most])

    def beliefs(self):
        """Those to show, as Beliefs."""
        return tuple(one for one in self.likeliest(BELIEFS_SHOWN) if one.probability > LEAST_SHOWN)

    def odds(self):
        """{flag: probability that it takes part in a culprit}."""
        return dict(zip(self.flags, self.posterior.family.takes_part(self.posterior.probability).tolist()))

    def probability_broken(self, row):
        """Of a subset, bool [1, n], as all runs that have ended let expect."""
        posterior = self.posterior
        return float(posterior.probability @ posterior.family.broken(row)[0]) + posterior.other / 2
