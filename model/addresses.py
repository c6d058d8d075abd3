"""Where hosts are: a look-up of names that ends, and addresses that anybody can reach."""

from __future__ import annotations

import ipaddress
import socket
import threading

LOOKUP_S = 20.0
"""How long the look-up of a host's name may take, where nothing else is said."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
# ^ Of IPv6 all that anybody can have: what lies beyond are old and other forms of closed addresses.
_public_hosts: set[str] = set()


def find_addresses(host: str, *, limit_s: float) -> tuple[str, ...]:
    """Look up the addresses of a host, in time: the system's own look-up has no limit that one could set.

    Args:
        host: Its name, or an address.
        limit_s: How long it may take, in seconds.

    Raises:
        TimeoutError: nobody has told by then.
        OSError: nobody knows the name, or it was found at public addresses once (`keep_public`) and is at others now.
        UnicodeError: it is no name.
    """
    found: list[str] = []
    faults: list[Exception] = []

    def look_up() -> None:
        try:
            found.extend(str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except Exception as fault:
            faults.append(fault)

    # One that goes on for ever holds nobody back, and goes with the process.
    thread = threading.Thread(target=look_up, name="look-up", daemon=True)
    thread.start()
    thread.join(limit_s)
    if faults:
        raise faults[0]
    if not found:
        raise TimeoutError(f"the name of host {host} was not looked up within {limit_s:g} s")
    if _name_host(host) in _public_hosts and not all(map(is_public, found)):
        raise OSError(f"host {host} was at public addresses and is at {', '.join(found)} now")
    return tuple(dict.fromkeys(found))


def keep_public(host: str) -> None:
    """Let no connection of this process to a host go to a closed network, whatever is said of its name later."""
    _public_hosts.add(_name_host(host))


def is_kept_public(host: str) -> bool:
    """Tell whether `keep_public` was told so of a host."""
    return _name_host(host) in _public_hosts


def is_public(text: str) -> bool:
    """Tell whether an address, IPv4 or IPv6, is one that anybody can reach, those wrapped in IPv6 included."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address not in _GIVEN_OUT:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast


def _name_host(host: str) -> str:
    """Give a host's name as it is asked for on the wire."""
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host.lower()
