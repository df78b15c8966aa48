"""Measures what a decision costs beside ``torch.argmax``: time, memory, first call, growth.

Every ratio comes from one run: contenders take turns, and each round's times are divided by each
other, so that a machine that slows down slows them all. What is measured runs in processes of its
own (``worker.py``), the published package (``peer.py``) in its own environment.
"""
