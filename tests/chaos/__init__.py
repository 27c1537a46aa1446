"""Faults, one by one, against real processes under load: `just chaos`."""
