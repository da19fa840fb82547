"""Runs -> law: everything that fits."""
