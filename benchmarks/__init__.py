"""Figures of everything that is meant to be fast, and of those it is compared with, from one run on
one machine.

    python -m benchmarks [--quick]        all suites; writes build/bench.json and docs/images/performance.svg
    python -m benchmarks filter keyed     these suites only; prints their figures, or writes them to --output

A suite is a function from a `Plan` to figures; `suites.py` lists them. `make bench` runs all in an
environment of their own.
"""
