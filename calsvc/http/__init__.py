"""The service over HTTP: middleware, the schema of bodies, errors and their answers."""

HOST = "127.0.0.1"
PORT = 8000
"""Where the service listens unless it is set otherwise."""
