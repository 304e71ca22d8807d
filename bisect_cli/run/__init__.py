"""One campaign under way: opened and held by a `session`, driven by the `controller`, which asks the `schedule` what is
next, has `attempts` started and collected, and lets the `recorder` alone write events.
"""
