"""Specs -> runs: everything that trains."""
