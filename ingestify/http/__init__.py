"""The parts that `client` and `throttle` are made of: each knows one thing about HTTP."""
