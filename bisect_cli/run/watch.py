"""What is to be said and counted of runs that others start: those that have begun, and those that do not get on."""

import contextlib
import os

from bisect_cli.campaign.events import Began, Stuck, Trouble
from bisect_cli.trainers import trainer_of

HEARTBEAT = "heartbeat"  # of the agent, not of the run
HUNG_LOOKS = 100  # at the files of a run, in the time after which it counts as hung
MOST = 10  # evictions in a row of a run that gets no further, after which it counts as crashed


class Watch:
    """Shows when a run that waited has begun, and when nothing is known of the runs."""

    def __init__(self, recorder, launcher):
        self.recorder, self.launcher = recorder, launcher
        self._waiting = set()
        self._trouble = self._stuck = ""

    def look(self, handles):
        """handles: {trial id: Handle} of the runs under way."""
        for name, handle in handles.items():
            if handle.state == "queued":
                self._waiting.add(name)
                self._say_stuck(name, handle.stuck)
            elif name in self._waiting and handle.node:
                self._waiting.discard(name)
                self.recorder.notify(Began(name, handle.node))
        if self.launcher.trouble != self._trouble:
            self._trouble = self.launcher.trouble
            self.recorder.notify(Trouble(self._trouble))

    def _say_stuck(self, name, words):
        """Once for all runs: they are alike."""
        if words and words != self._stuck:
            self._stuck = words
            self.recorder.notify(Stuck(name, words))


class Silence:
    """Looks for runs that have written nothing for so long that they count as hung. home: trial -> its folder. hung: in
    seconds.
    """

    def __init__(self, recorder, home, hung):
        self.recorder, self.home, self.hung = recorder, home, hung
        self._next_look = 0.0

    def look(self, handles):
        """Yields the id of each hung run of {trial id: Handle}, and the reason. Seldom looks at their files."""
        clock = self.recorder.clock
        if clock.monotonic() < self._next_look:
            return
        self._next_look = clock.monotonic() + self.hung / HUNG_LOOKS
        for name, handle in handles.items():
            trial = self.recorder.state.trials[name]
            if handle.state == "running" and _silent_for(trial, self.home(trial), clock.now()) > self.hung:
                yield name, f"hung: it wrote nothing for {self.hung / 60:.0f} minutes"


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


def _silent_for(trial, home, now):
    """Seconds since a run wrote to any of its files."""
    latest = trial.started or 0
    for folder in (home / "out", home / f"attempt-{trial.attempts}"):
        with contextlib.suppress(OSError):
            own = (entry for entry in os.scandir(folder) if entry.name != HEARTBEAT)
            latest = max([latest, *(entry.stat().st_mtime for entry in own)])
    return now - latest
