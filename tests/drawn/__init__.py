"""Whole models drawn at random from what torch offers, and checked in every way that qcore runs, keeps and writes them.

    python -m tests.drawn --seeds 0..1000 [--jobs 2] [--only CHECK ...] [--show SEED] [--shrink SEED]

A seed is a model: `draw.draw(seed)` gives a Program, whose text is a Python file of its own. `vocabulary` says what is
drawn, `checks` what must hold, `noise` how far a result may be from the float model's, `running` runs a seed, and
`server` forks processes for seeds, so that a crash is a failure of the seed. With --quick a seed takes about a second
of one core, half of it for ONNX, which one seed of ten gets.
"""
