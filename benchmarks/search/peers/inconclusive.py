class Inconclusive(Exception):
    """A search met what it does not know how to go on from, such as two runs of one subset that disagree."""
