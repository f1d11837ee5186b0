"""Plain renderings of the published algorithm: slow, short, and sharing no code with `core`."""
