"""Whole models drawn at random from what torch offers, and checked in every way that qcore runs, keeps and writes them.

    python -m tests.drawn --seeds 0..1000 [--jobs 2] [--only CHECK ...] [--show SEED] [--shrink SEED]

A seed is a model: `draw.draw(seed)` gives a Program, whose text is a Python file of its own. `vocabulary` says what is
drawn, `checks` what must hold, `noise` how far a result may be from the float model's, `running` runs seeds in
processes of their own, so that a crash is a failure of the seed.
"""
