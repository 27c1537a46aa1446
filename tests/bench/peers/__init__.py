"""Known model servers on the same model, the same core and in the same run as calsvc: `just bench-peers`."""
