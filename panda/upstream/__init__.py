"""The words of upstream PanDA, mapped on our services: its pilots, clients and harvesters, unmodified.

Nothing is decided here. A request is read (`wire`), its words are turned into ours by tables (`words`), a service of
the engine does the work, and the answer goes out as upstream's server would have written it (`faces`).
"""

from panda.upstream.mount import install

__all__ = ["install"]
