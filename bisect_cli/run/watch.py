"""What is to be said and counted of runs that others start: those that have begun, and those that do not get on."""

import contextlib
import math
import os

from bisect_cli.campaign.events import Began, Stuck, Trouble
from bisect_cli.run import whose
from bisect_cli.trainers import trainer_of

HEARTBEAT = "heartbeat"  # of the agent, not of the run
HUNG_LOOKS = 100  # at the files of a run, in the time after which it counts as hung
FEWEST_LOOKS = 10  # ... and at least, however seldom there was a look
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
    seconds, from when this is first looked at. The time of day has no part in it, for that may be set.
    """

    def __init__(self, recorder, home, hung):
        self.recorder, self.home, self.hung = recorder, home, hung
        self._looked = -math.inf
        self._quiet = {}  # trial id -> (what its files were like, for how many seconds they have been)

    def look(self, handles):
        """Yields the id of each hung run of {trial id: Handle}, and the reason. Seldom looks at their files."""
        now = self.recorder.clock.monotonic()
        if now - self._looked < self.hung / HUNG_LOOKS:
            return
        # Who has not looked for long was stopped or suspended, and the runs with it: not all of that is their silence.
        passed = min(now - self._looked, self.hung / FEWEST_LOOKS)
        self._looked = now
        running = [name for name, handle in handles.items() if handle.state == "running"]
        self._quiet = {name: self._quiet_for(name, passed) for name in running}
        for name, (_, seconds) in self._quiet.items():
            if seconds > self.hung:
                yield name, f"hung: it wrote nothing for {self.hung / 60:.0f} minutes"

    def _quiet_for(self, name, passed):
        trial = self.recorder.state.trials[name]
        files = _files_of(trial, self.home(trial))
        before, seconds = self._quiet.get(name, (None, 0.0))
        return files, seconds + passed if files == before else 0.0


class Results:
    """Waits for the results of runs that have ended well: on a shared folder they may be seen later than that end.
    home: trial -> its folder.
    """

    def __init__(self, recorder, launcher, home):
        self.recorder, self.launcher, self.home = recorder, launcher, home
        self._seen_by = {}  # trial id -> when its result is surely seen here

    def poll(self, name, handle):
        """The Exit of a run, None as long as it lives or its result may not be seen yet."""
        end = handle.poll()
        if end is None or end.code != 0 or not self.launcher.lag:
            return end
        trial, now = self.recorder.state.trials[name], self.recorder.clock.monotonic()
        until = self._seen_by.setdefault(name, now + self.launcher.lag)
        if now < until and not whose.result(self.recorder.settings, trial, self.home(trial), end.code):
            return None
        del self._seen_by[name]
        return end


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


def _files_of(trial, home):
    """What a run's files are like: anything that a write changes."""
    found = [trial.attempts]
    for folder in (home / "out", home / f"attempt-{trial.attempts}"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name != HEARTBEAT:
                    status = entry.stat(follow_symlinks=False)
                    found.append((folder.name, entry.name, status.st_size, status.st_mtime_ns))
    return sorted(map(repr, found))
