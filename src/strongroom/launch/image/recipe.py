"""What a worker image is made of, and what may not be in it.

Knows: names of packages and wheels, which of their files are kept, the kernel's options and modules, the few programs. Does not know:
versions and digests (`lock`), or how anything is read or written. Everything is an allow-list: what is not named is left out.
"""

from __future__ import annotations

import re

from strongroom.errors import ImageRefused
from strongroom.launch.image import elf
from strongroom.launch.image.tree import Entry, Tree

PYTHON = "python3.11"
INTERPRETER = f"usr/bin/{PYTHON}"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
STANDARD, PACKAGES = f"usr/lib/{PYTHON}", "usr/lib/python3/dist-packages"
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
MODULE_LIST = "usr/lib/strongroom/modules"
MANIFEST, CONFIGURED = "usr/share/strongroom/image.json", "usr/share/strongroom/configured.json"
"""The lists of what is in an image, and of what its configuration adds."""
INIT, COMMAND, NFT = "init", "usr/bin/strongroom", "usr/sbin/nft"

KERNEL = "linux-image-"
KERNEL_META = "linux-image-cloud-amd64"
"""The package that depends on the newest kernel of its kind."""
DEBS = (
    f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6", "zlib1g", "libexpat1", "libssl3", "libbz2-1.0",
    "liblzma5", "libffi8", "libuuid1", "libgcc-s1", "libstdc++6", "libgomp1", "libsqlite3-0",
    "nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libgmp10", "libedit2", "libbsd0", "libmd0", "libtinfo6",
    "libxtables12", "systemd-boot-efi",
)  # fmt: skip
WHEELS = (
    "anyio", "blake3", "cbor2", "cffi", "click", "cryptography", "h11", "httpcore2", "httpx2", "idna", "joserfc", "rfc8785",
    "sniffio", "starlette", "truststore", "typing-extensions", "uvicorn", "xllamacpp",
)  # fmt: skip
OURS = "strongroom"

COMMAND_LINE = (
    "console=ttyS0 quiet lockdown=confidentiality module.sig_enforce=1 panic=-1 oops=panic vsyscall=none slab_nomerge "
    "init_on_alloc=1 ipv6.disable=1 no_timer_check rdinit=/init"
)
"""The kernel's own options and nothing else; the worker is told nothing by it."""
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "crc32c_generic", "nf_tables", "nft_ct", "configfs",
)  # fmt: skip
FILESYSTEMS = {"vfat": ("nls_cp437", "nls_ascii", "nls_utf8", "vfat"), "ext4": ("ext4",)}

_KEPT = re.compile(
    rf"{LIBRARIES}/[^/]+\.so(?:\.[\w.]+)?|usr/lib64/ld-linux-x86-64\.so\.2|{INTERPRETER}|{NFT}|{STANDARD}/.*"
    r"|usr/share/doc/[^/]+/copyright"
)
_NOT_NEEDED = re.compile(
    rf"{STANDARD}/(?:test|unittest|idlelib|tkinter|turtledemo|lib2to3|ensurepip|distutils|pydoc_data|venv|curses|dbm|"
    r"wsgiref|xmlrpc|sitecustomize\.py|turtle\.py|pdb\.py|pydoc\.py|doctest\.py|antigravity\.py|this\.py|pty\.py|"
    r"telnetlib\.py|ftplib\.py|smtpd\.py|smtplib\.py|nntplib\.py|imaplib\.py|poplib\.py|cgi\.py|cgitb\.py|EXTERNALLY-MANAGED|"
    r"lib-dynload/(?:_curses|_curses_panel|_dbm|_gdbm|readline|nis|_crypt|ossaudiodev|_tkinter|_codecs_\w+|_multibytecodec|_test\w+|_xx\w+|xx\w+)\.)"
    r".*|.*/__pycache__/.*|.*/lib(?:SegFault|memusage|pcprofile|c_malloc_debug|nss_(?:compat|hesiod)|thread_db)\.so.*"
)
_NOT_INSTALLED = re.compile(
    rf".*/tests?/.*|.*\.(?:pyi|pyx|pxd|c|h|typed)|[^/]+\.dist-info/(?:RECORD|INSTALLER|WHEEL|REQUESTED|top_level\.txt|entry_points\.txt)"
    rf"|{OURS}/(?:demo|bench|launch)/.*|{OURS}/cli/(?:demo|bench|measure|doctor|image)\.py"
)
"""Of wheels: tests, what compilers want, and those rooms of ours that no worker enters."""

PROGRAMS = frozenset({INIT, COMMAND, INTERPRETER, NFT, LOADER})
"""All that may be executed. The loader must be, or nothing is."""
FORBIDDEN = frozenset((
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "rbash", "busybox", "toybox", "ssh",
    "sshd", "scp", "sftp", "sftp-server", "dropbear", "telnetd", "telnet", "rlogin", "rsh", "perl", "ruby", "lua",
    "tclsh", "awk", "gawk", "mawk", "gdb", "gdbserver", "strace", "ltrace", "login", "su", "sudo", "doas", "getty",
    "agetty", "nc", "ncat", "netcat", "socat", "curl", "wget", "pip", "pip3", "ensurepip", "modprobe", "insmod",
    "kexec",
))  # fmt: skip
"""Names that no file of the image bears, wherever it lies."""


def wants_of_deb(path: str) -> bool:
    """Whether a file of a Debian package goes into the image's root (the kernel's and the stub's are taken apart)."""
    return _KEPT.fullmatch(path) is not None and _NOT_NEEDED.fullmatch(path) is None


def wants_of_wheel(path: str) -> bool:
    """Whether a file of a wheel, by its path within it, goes into the image."""
    return _NOT_INSTALLED.fullmatch(path) is None


def marked(path: str, entry: Entry) -> Entry:
    """The entry as it goes in: executable only if it is one of the programs, native without what only debuggers read."""
    return Entry(entry.kind, entry.origin, elf.strip(entry.data), entry.kind == "file" and path in PROGRAMS)


def refuse_names(tree: Tree) -> None:
    """Look at the names of a part of the image. Raises `ImageRefused` for that of a shell or the like."""
    for path, entry in tree:
        name = path.rpartition("/")[2]
        pointed = entry.data.decode("utf-8", "replace").rpartition("/")[2] if entry.kind == "link" else ""
        if entry.kind != "folder" and {name, pointed} & FORBIDDEN:
            raise ImageRefused(f"{path} of {entry.origin} must not be in a worker image", detail=path)


def refuse(tree: Tree) -> None:
    """Look at the whole root. Raises `ImageRefused` for a shell, another program, or a missing one."""
    refuse_names(tree)
    programs = {path for path, entry in tree.files() if entry.executable}
    for path in sorted(programs ^ PROGRAMS):
        what = "is a program that nobody named" if path in programs else "is missing"
        raise ImageRefused(
            f"{path} {what}", detail=path, remedy="Look at the recipe of the image (launch.image.recipe)."
        )
