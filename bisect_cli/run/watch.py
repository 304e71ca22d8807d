"""What is to be said and counted of runs that others start: those that have begun, and those that do not get on."""

from bisect_cli.campaign.events import Began, Trouble
from bisect_cli.trainers import trainer_of

MOST = 10  # evictions in a row of a run that gets no further, after which it counts as crashed


class Watch:
    """Shows when a run that waited has begun, and when nothing is known of the runs."""

    def __init__(self, recorder, launcher):
        self.recorder, self.launcher = recorder, launcher
        self._waiting = set()
        self._trouble = ""

    def look(self, handles):
        """handles: {trial id: Handle} of the runs under way."""
        for name, handle in handles.items():
            if handle.state == "queued":
                self._waiting.add(name)
            elif name in self._waiting:
                self._waiting.discard(name)
                self.recorder.notify(Began(name, handle.node))
        if self.launcher.trouble != self._trouble:
            self._trouble = self.launcher.trouble
            self.recorder.notify(Trouble(self._trouble))


class Evictions:
    """Counts how often runs were ended by their scheduler without having got on, as where a time limit is too short."""

    def __init__(self, settings):
        self.settings = settings
        self._counts = {}  # trial id -> (step, times in a row that it came no further)

    def hopeless(self, trial, home):
        """Notes one more eviction; whether it was one too many."""
        far = trainer_of(self.settings).progress(self.settings, home)
        step = far.step if far else 0
        before, times = self._counts.get(trial.id, (-1, 0))
        self._counts[trial.id] = (step, 1 if step > before else times + 1)
        return self._counts[trial.id][1] >= MOST
