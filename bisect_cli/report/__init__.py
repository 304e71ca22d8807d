"""What people and other programs see of a campaign. `summary` makes the documented JSON; everything else draws from
that, but for `explain`, which needs the analysis itself.
"""
