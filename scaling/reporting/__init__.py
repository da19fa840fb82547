"""Everything -> something to look at."""
