class Inconclusive(Exception):
    """A search met what it cannot continue from, such as two runs of one subset that disagree."""
