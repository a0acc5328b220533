"""The main job in a virtual machine that boots for real: measured, enrolled, appraised against registers computed before the boot.

    vendor     who makes software TPMs here: certificates for their endorsement keys
    site       everything on this machine: owner, broker, image, disk, the machines that are started
    story      the steps
    attacks    other machines, each refused with the input that differs

The hypervisor holds the software TPM, so whoever runs it could write any quote: the level is `simulated`. A TPM that the operator does not
hold (a chip, a cloud's) makes the same story `measured`.
"""
