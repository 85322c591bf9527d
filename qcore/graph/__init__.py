"""The quantized graph: what a backend compiles, how it is read from a converted model, and how its parts run."""
