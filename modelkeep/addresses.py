"""Addresses as they may be shown and kept."""

from __future__ import annotations


def without_secrets(address: str) -> str:
    """An address without user, password, query and fragment, any of which may be a secret; a path as it is."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def has_password(address: str) -> bool:
    """Whether an address carries a user or password."""
    _, separator, rest = address.partition("://")
    return bool(separator) and "@" in rest.partition("/")[0]
