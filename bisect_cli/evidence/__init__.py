"""What runs say about sets of flags. Pure: no clock, no disk, no process.

verdict         what is known of one set and one metric: fine, broken, undecided or crashed (verdict.py)
baseline        the runs with all flags off; every other set is compared with them
seed            what a run's random numbers start from: its first weights, the order of its images
replicate       one of several runs of a set; they differ by their seed
noise           the standard deviation of a metric between runs that differ by their seed alone
drop            what a broken set loses of a metric, against the baseline
log odds        natural logarithm of how many times likelier the runs are if the set is broken than if it is fine
outlier         a run that is off by chance, whatever its flags
mode            where the values of many runs pile up: those of fine sets at one place, those of broken sets at another
parameters      level, noise and drop of a metric: not known, but the same for all sets of a campaign
parameter grid  many possible values of the parameters, each with its weight (grid.py)
seed model      what is expected of the runs of each seed, given the parameters (seed_model.py)
noise prior     what is assumed of noise and drops before any run (noise_prior.py)
prior evidence  verdicts on sets of a campaign that do not rest on runs of it, so they may be wrong (prior.py)
unit            the map from a metric as it is reported to the scale of the judge, 0 worst and 1 best (units.py)
yardstick       a metric's unit and noise prior (yardstick.py)
look            a comparison of a run under way with the baseline at the same step (curves.py)
"""
