"""A simulated world to run the engine in, whose every effect can go wrong. See `world.world`."""
