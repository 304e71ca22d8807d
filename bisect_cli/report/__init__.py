"""What people and other programs see of a campaign. `summary` makes the documented JSON; everything else draws from
that.
"""
