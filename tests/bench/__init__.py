"""Measurements: run by hand (`just bench`), printed, never asserted on time."""
