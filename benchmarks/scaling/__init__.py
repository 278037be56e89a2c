"""How far one run can be spread: two ranks measured on this machine, and from that, by calculation, up to 1,024.

`measure` starts the ranks (`worker`), `limit` calculates, `page` writes ``RESULTS/scaling/<machine>/``.
"""
