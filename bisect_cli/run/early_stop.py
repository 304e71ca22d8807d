"""Runs whose curve settles their verdict before their end are let go (docs/early-stopping.md)."""

from bisect_cli.campaign.state import CANCELLED, STOPPED_EARLY, WAITING
from bisect_cli.evidence import curves
from bisect_cli.trainers import trainer_of

# Of a run, before which none is stopped. Curves were calibrated by one look at .6 (docs/early-stopping.md). Of dense
# curves, looked at from their first steps, harmless flags that learn slowly at first were named at 99 %.
FIRST_LOOK = 0.6
LOOK_SHARE = 0.03  # of the time since its curve was first looked at, until it is looked at again


class EarlyStop:
    """Looks at the curves of the runs under way."""

    def __init__(self, recorder, attempts):
        self.recorder, self.attempts = recorder, attempts
        self._first_look, self._next_look = {}, {}  # trial id -> when its curve was first looked at, and is again

    def look(self):
        """Lets the runs go that are settled. Of those waiting to be resumed it is logged at once: such a run was
        interrupted, or lost, before it was let go.
        """
        state = self.recorder.state
        if not state.settings.early_stop:
            return
        for trial in state.current:
            # the baseline is what the others are compared with, so it is never in question
            in_question = trial.flags and not trial.ended and trial.state != CANCELLED
            if in_question and not self.attempts.is_leaving(trial) and self._is_due(trial):
                early = self._settled(trial)
                if early and trial in self.attempts:
                    self.attempts.let_go(trial, STOPPED_EARLY, curves.words(early), early)
                elif early and trial.state == WAITING:
                    self.attempts.record_end(trial, STOPPED_EARLY, reason=curves.words(early), early=early)

    def _is_due(self, trial):
        """Whether a run's curve is to be looked at now."""
        now = self.recorder.clock.monotonic()
        if now < self._next_look.get(trial.id, now):
            return False
        age = now - self._first_look.setdefault(trial.id, now)
        self._next_look[trial.id] = now + LOOK_SHARE * age
        return True

    def _settled(self, trial):
        """Where a run can be stopped, as curves.stop, or None."""
        state, analysis = self.recorder.state, self.recorder.analysis
        relevance = analysis.relevance.get(trial.flags)
        if relevance is None or not all(analysis.verdicts.values()):  # the baseline has to be complete
            return None
        own, looks = self._curve(trial), {}
        if max(own.points, default=0) < FIRST_LOOK * own.steps:
            return None
        ended = [one for one in state.trials_of(()) if one.metrics]
        for metric, measured in analysis.yardsticks.items():
            key = state.settings.metric(metric).key
            baseline = {one.seed: {**self._curve(one).values(key), own.steps: one.metrics[key]} for one in ended}
            largest = analysis.verdicts[metric][()].largest_drop
            looks[metric] = measured.compare(baseline, own.values(key), trial.seed, own.steps, largest)
        return curves.stop(looks, relevance, own.steps)

    def _curve(self, trial):
        """The evaluations of a run so far, as runfiles.Curve."""
        settings = self.recorder.settings
        return trainer_of(settings).curve(settings, self.attempts.home(trial))
