"""One bisect as data: what the trainer declares (`spec`), what is asked (`settings`), what has happened (`events`) and
how it stands (`state`), a pure fold over the events of its log. No clock, no disk, no process.
"""
