"""What to know of a provider before a first big sync: `python -m benchmarks.provider --help`.

It is asked a few hundred times, in the way and within the limits in which a run would ask, and
nothing of what it answers is kept.
"""
