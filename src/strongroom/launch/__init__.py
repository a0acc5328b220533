"""Launch: from a host that nobody trusts to a machine whose measurements are known before it boots.

One specification (`records.launch`) drives the arguments of QEMU, the domain of libvirt, and what every register must hold; `doctor`
looks at a host first. Nothing that is said here of a host counts as proof: verdicts are the broker's.
"""
