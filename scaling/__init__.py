"""Scaling laws from real runs. Importing this imports neither training code nor matplotlib."""
