"""The marks of `panda.auth.access`, under the name that the resources here know them by."""

from panda.auth.access import Access, access_of, allowed, public

__all__ = ["Access", "access_of", "allowed", "public"]
