"""The service over HTTP: middleware, the schema of bodies, errors and their answers."""
