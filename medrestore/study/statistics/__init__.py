"""Multi-reader multi-case statistics: one engine for all figures of merit, agreement, power.

:mod:`reads` brings a long table into arrays, :mod:`merit` gives any figure of merit with its covariance over
cases, :mod:`obuchowski_rockette` turns these into tests and intervals, :mod:`analyze` writes them down.
"""
