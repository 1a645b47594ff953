"""Benchmarks: every figure is a ratio or a duration measured in one run, on real parts.

They stand beside the product and may look into it; nothing of the product knows them.
"""
