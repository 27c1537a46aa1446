"""The service: answers calorie predictions, joins them with truth that arrives late, and shows how well they did."""

from importlib.metadata import version

__version__ = version("calsvc")
