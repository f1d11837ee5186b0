"""Timings against plain renderings of the published algorithm; each script prints its tables."""
