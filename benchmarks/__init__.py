"""How fast metaser's training is, beside the same training written the usual ways, on the machine at hand.

Three contenders, each in a process of its own, are told in turn to run some meta-iterations and to say how long they took:

- ``learn2learn``: its own example loop, its classes, PyTorch's defaults (`benchmarks.stock`);
- ``reference``: the way of MetaSER's published code (`benchmarks.reference`);
- ``metaser``: ours (`benchmarks.ours`).

Turns alternate, so that whatever slows the machine for a while slows all of them, and ratios are taken within a round.
"""
