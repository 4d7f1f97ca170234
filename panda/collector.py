"""Python's collector of cycles, told how a process of ours lives.

What a process loads at its start stays until its end: some hundred thousand objects, which the collector would look
through again and again. What it makes afterwards, rows and messages, goes by itself as soon as nobody needs it; of
that the collector's usual threshold of 700 sees a look in each larger answer. A child that is forked shares what is
spared with its parent, as the collector does not write to it.
"""

import gc

#: Objects made and not yet gone before the collector looks at the young ones.
YOUNG = 20_000


def spare() -> None:
    """Leave what is there now alone, for good, and look at what comes less often. For the end of a start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
