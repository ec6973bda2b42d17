"""Whole-process benchmarks: each part is a module whose `run` returns the tables of its report."""
