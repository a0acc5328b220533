"""Intel TDX: whether this host is ready to start trust domains, and to have them quoted.

Knows: registers, modules, services. Does not know: whether a quote holds.
Sources: Intel's TDX enabling guide (registers 0x982 bit 1, 0x1401 bit 11, 0x87 bits 63:32, 0xa0, 0xce bit 27, all by rdmsr; BIOS: TME,
TME-MT, TDX, SEAM loader, key split, SGX); Linux `arch/x86/tdx.rst`, `ABI/testing/sysfs-devices-faux-tdx-host`; Intel DCAP's
qcnl configuration and QGS.
Not covered: that the quote service answers and that the PCCS is reached: only that they are there and configured.
"""

from __future__ import annotations

import json
import re
import stat

from strongroom.launch.doctor import facts
from strongroom.launch.doctor.finding import Finding, failed, passed, shown, unknown
from strongroom.launch.doctor.host import Host

FEWEST_KEYS = 16
"""Private keys beyond which a split of keys was chosen on purpose (more than this)."""
_MOST_KEYS = 1 << 15
_TME, _SEAMRR, _KEYS, _MCHECK, _PLATFORM = 0x982, 0x1401, 0x87, 0xA0, 0xCE
_BIOS = "In the firmware's setup switch on TME, TME-MT, TDX and the SEAM loader, with a key split above 0, and SGX."
_NO_REGISTER = "modprobe msr, and look as root (kernel lockdown may forbid it; then look before it is on)."
MOST_PROCESSES = 4096
_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')
"""A parameter of the kernel's command line: quotes hold spaces (Linux, `next_arg`)."""
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_URL = re.compile(r"https://[!-~]{1,1024}")


def cpu(host: Host) -> Finding:
    """The CPU is Intel's and the kernel found it to be a TDX host (private keys are set aside)."""
    found = facts.cpu(host)
    if found is None:
        return unknown("/proc/cpuinfo cannot be read", "Mount proc.")
    if found.vendor != facts.INTEL:
        return failed(f"a CPU of {shown(found.vendor)}", "TDX needs an Intel Xeon of the fourth generation or later.")
    if "tdx_host_platform" not in found.flags:
        return failed("no flag tdx_host_platform", f"{_BIOS} The kernel must know TDX hosts.")
    return passed(shown(found.name))


def kvm(host: Host) -> Finding:
    """KVM may start trust domains."""
    return _parameter(host, "tdx", "Load it with kvm_intel.tdx=1, on a kernel that has TDX hosts (upstream: 6.16).")


def sgx(host: Host) -> Finding:
    """SGX is on: the quoting enclave lives in it."""
    return _parameter(host, "sgx", "Switch SGX on in the firmware's setup.")


def module(host: Host) -> Finding:
    """The TDX module is loaded and says its version."""
    text = host.text("/sys/devices/faux/tdx_host/version")
    found = facts.version(text, 3)
    if found is not None and found[0] > 0:
        return passed(shown(text or ""))
    remedy = "Look for 'virt/tdx: module initialized' in the kernel's log; older kernels say it nowhere else."
    return unknown("the kernel does not say which TDX module is loaded", remedy)


def memory_encryption(host: Host) -> Finding:
    """Total memory encryption is on (IA32_TME_ACTIVATE, bit 1)."""
    return _bit(host, _TME, 1, wanted=1, no="memory encryption is off")


def seam(host: Host) -> Finding:
    """Memory is set aside for the TDX module (IA32_SEAMRR_PHYS_MASK, bit 11)."""
    return _bit(host, _SEAMRR, 11, wanted=1, no="no memory is set aside for the TDX module")


def production(host: Host) -> Finding:
    """The CPU is a production part (register 0xce, bit 27 clear): Intel certifies no other."""
    return _bit(host, _PLATFORM, 27, wanted=0, no="a pre-production CPU")


def keys(host: Host) -> Finding:
    """More than sixteen encryption keys are set aside for trust domains (register 0x87, bits 63:32)."""
    value = host.probe.register(_KEYS)
    if value is None:
        return unknown("register 0x87 cannot be read", _NO_REGISTER)
    count = value >> 32
    if count >= _MOST_KEYS:
        return unknown(f"register 0x87 says {count} keys, which no CPU has", _NO_REGISTER)
    return passed(f"{count} keys") if count > FEWEST_KEYS else failed(f"{count} keys", _BIOS)


def mcheck(host: Host) -> Finding:
    """The CPU's own check of memory and SGX succeeded (register 0xa0 is 0)."""
    value = host.probe.register(_MCHECK)
    if value is None:
        return unknown("register 0xa0 cannot be read", _NO_REGISTER)
    remedy = "Look up the code in Intel's enabling guide; often memory is not fitted alike on all channels."
    return passed("0") if value == 0 else failed(f"code {value:#x}", remedy)


def hibernation(host: Host) -> Finding:
    """The kernel cannot hibernate: the TDX module would not outlive it, and Linux refuses to start it."""
    line = host.text("/proc/cmdline")
    if line is not None and "nohibernate" in _parameters(line):
        return passed("nohibernate")
    disk = host.text("/sys/power/disk")
    if disk is not None and disk.split() == ["[disabled]"]:
        return passed("not available")
    remedy = "Start the kernel with nohibernate."
    if line is None and disk is None:
        return unknown("/proc/cmdline and /sys/power/disk cannot be read", remedy)
    return failed("hibernation is possible", remedy)


def _parameters(line: str) -> list[str]:
    """What of a command line is the kernel's: what stands behind `--` is for init."""
    words: list[str] = _WORD.findall(line)
    return words[: words.index("--")] if "--" in words else words


def quotes(host: Host) -> Finding:
    """The quote generation service is there: its socket, or a process of it."""
    if host.node("/run/tdx-qgs/qgs.socket", stat.S_IFSOCK):
        return passed("/run/tdx-qgs/qgs.socket")
    remedy = "Install and start Intel's tdx-qgs (qgsd); where it listens on vsock, port 4050 is usual."
    processes = [name for name in host.names("/proc") or () if facts.number(name)]
    if len(processes) > MOST_PROCESSES or not processes:
        return unknown("no socket, and the processes cannot be listed", remedy)
    if any(host.text(f"/proc/{process}/comm") == "qgs" for process in processes):
        return passed("qgs runs")
    return failed("no quote generation service", remedy)


def collateral(host: Host) -> Finding:
    """The quote service knows a PCCS, by HTTPS, and insists on its certificate (which it does unless it is told not to)."""
    remedy = "Set pccs_url in /etc/sgx_default_qcnl.conf to your PCCS, and use_secure_cert to true."
    text = host.text("/etc/sgx_default_qcnl.conf")
    if text is None:
        gone = host.there("/etc/sgx_default_qcnl.conf") is False
        return (
            failed("no /etc/sgx_default_qcnl.conf", remedy)
            if gone
            else unknown("/etc/sgx_default_qcnl.conf cannot be read", remedy)
        )
    said = _configuration(text)
    if said is None:
        return failed("/etc/sgx_default_qcnl.conf is no JSON object that says each thing once", remedy)
    url = said.get("pccs_url")
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return failed("it names no PCCS by HTTPS", remedy)
    return (
        passed(shown(url))
        if said.get("use_secure_cert", True) is True
        else failed("use_secure_cert is not true", remedy)
    )


def _configuration(text: str) -> dict[str, object] | None:
    """JSON with comments, as Intel's library reads it; None for anything else, and where a name is there twice."""
    try:
        found = json.loads(_COMMENT.sub(lambda match: match[1] or " ", text), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def capacity(host: Host) -> Finding:
    """The kernel counts keys for trust domains: so many can run at once."""
    count = facts.capacity(host, "tdx")
    if count is None:
        return unknown("/sys/fs/cgroup/misc.capacity cannot be read", "Use cgroup version 2 with the misc controller.")
    return passed(f"{count} trust domains at once") if count else failed("none", _BIOS)


def _parameter(host: Host, name: str, remedy: str) -> Finding:
    on = facts.switch(host, f"/sys/module/kvm_intel/parameters/{name}")
    if on:
        return passed(f"kvm_intel.{name}=Y")
    modules = host.names("/sys/module")
    if on is False:
        return failed(f"kvm_intel.{name}=N", remedy)
    if modules is not None and "kvm_intel" not in modules:
        return failed("kvm_intel is not loaded", remedy)
    if host.there(f"/sys/module/kvm_intel/parameters/{name}") is False:
        return failed(f"kvm_intel has no parameter {name}", remedy)
    return unknown(f"kvm_intel's parameter {name} cannot be read", remedy)


def _bit(host: Host, register: int, bit: int, *, wanted: int, no: str) -> Finding:
    value = host.probe.register(register)
    if value is None:
        return unknown(f"register {register:#x} cannot be read", _NO_REGISTER)
    return passed(f"register {register:#x}, bit {bit} is {wanted}") if value >> bit & 1 == wanted else failed(no, _BIOS)
