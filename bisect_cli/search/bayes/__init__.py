from bisect_cli.search.bayes.planner import search

__all__ = ["search"]
