"""Faults of machines, one at a time, at every point of a campaign: `python -m faults` with tests/ on the path, as
`make test-faults` has it. What is found is summed up in docs/reliability.md.

  injector     acts at the n-th operation of a process on files or processes
  trainer      the fake trainer, which notes what was trained twice or again
  site         a folder with a campaign, commands on it in processes of their own, and how it came out
  controllers  the controller: killed, refused by the system, paused, together with others, at another time
  agents       the same for the agent that stands beside a run
  damage       logs cut, and lines deleted, doubled, swapped and changed
  power        states of the disk that a power loss may leave
  late         a shared folder that is seen late
  __main__     all of them within a budget of time, and the table
"""
