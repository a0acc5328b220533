"""The rules of a worker's machine for what passes its network, in nft's language.

Knows: a measured configuration, and that everything it does not name is dropped, in IPv4 and IPv6. Does not know: who loads
the rules (`init`). Not covered: what passes an open connection, which is the channel's matter.
"""

from __future__ import annotations

from strongroom.records.machine import Network

TABLE = "strongroom"
CHAINS = ("input", "forward", "output")


def ruleset(network: Network | None) -> str:
    """All rules of the machine; they replace whatever rules there were. Without a network only the loopback is open."""
    inward = ['iif "lo" accept', "ct state established,related accept"]
    outward = ['oif "lo" accept', "ct state established,related accept"]
    if network is not None:
        inward += [f'iifname "{network.interface}" tcp dport {port} ct state new accept' for port in network.serves]
        for place in network.reaches:
            address, _, port = place.rpartition(":")
            rule = f"ip daddr {address} tcp dport {port} ct state new accept"
            outward.append(f'oifname "{network.interface}" {rule}')
    rules = {"input": inward, "forward": [], "output": outward}
    lines = ["flush ruleset", f"table inet {TABLE} {{"]
    for chain in CHAINS:
        lines += [f"  chain {chain} {{", f"    type filter hook {chain} priority 0; policy drop;"]
        lines += [*(f"    {rule}" for rule in rules[chain]), "  }"]
    return "\n".join([*lines, "}"]) + "\n"


def closed(listed: str) -> bool:
    """Whether what the kernel lists drops by default in each direction; anything else is not closed."""
    return all(f"type filter hook {chain} priority filter; policy drop;" in listed for chain in CHAINS)
