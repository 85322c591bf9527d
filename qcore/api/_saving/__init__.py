"""How a converted model becomes a file, and comes back: values, modules, graphs. Format: docs/checkpoints.md."""
