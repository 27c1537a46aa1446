"""The simulator: replays real rows as an open-loop stream and sends each truth when it is due."""
