"""Benchmarks: each compares the atlas with something plain in the same run, and prints ratios.

make bench                                   all of them
python -m tests.benchmarks ingest similar    some of them
"""
