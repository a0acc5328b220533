"""The system calls that a confined child may make, with their numbers on x86_64 and aarch64.

Knows: names and numbers, as in Linux's `asm/unistd.h`. Does not know: conditions on arguments (`seccomp`).
Whatever is not here is refused: new sockets and connections, other processes (fork, exec, ptrace, process_vm_*, kill, pidfd),
mounts and namespaces, bpf, perf, keyrings, kexec, modules, userfaultfd, io_uring, and all that the kernel will learn later.
"""

from __future__ import annotations

_TABLE = """
# Bytes and waiting
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; preadv 295 69; pwritev 296 70;
lseek 8 62; close 3 57; close_range 436 436; dup 32 23; dup2 33 -; dup3 292 24; fcntl 72 25; ioctl 16 29; poll 7 -;
ppoll 271 73; select 23 -; pselect6 270 72; epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -;
epoll_pwait 281 22; epoll_pwait2 441 441; eventfd2 290 19; pipe 22 -; pipe2 293 59; fsync 74 82; fdatasync 75 83;
ftruncate 77 46; truncate 76 45; fallocate 285 47; fadvise64 221 223; flock 73 32;
# Files (the root is empty or read-only)
open 2 -; openat 257 56; stat 4 -; fstat 5 80; lstat 6 -; newfstatat 262 79; statx 332 291; access 21 -;
faccessat 269 48; faccessat2 439 439; readlink 89 -; readlinkat 267 78; getdents64 217 61; getcwd 79 17;
chdir 80 49; fchdir 81 50; mkdir 83 -; mkdirat 258 34; unlink 87 -; unlinkat 263 35; rmdir 84 -; rename 82 -;
renameat 264 38; renameat2 316 276; umask 95 166; chmod 90 -; fchmod 91 52; fchmodat 268 53; utimensat 280 88;
statfs 137 43; fstatfs 138 44;
# Memory
mmap 9 222; munmap 11 215; mprotect 10 226; mremap 25 216; madvise 28 233; brk 12 214; mlock 149 228;
mlock2 325 284; munlock 150 229; msync 26 227; mincore 27 232; membarrier 324 283;
# Threads, time, who am I
futex 202 98; futex_waitv 449 449; set_robust_list 273 99; get_robust_list 274 100; rseq 334 293;
set_tid_address 218 96; gettid 186 178; getpid 39 172; getppid 110 173; sched_yield 24 124;
sched_getaffinity 204 123; sched_setaffinity 203 122; sched_getparam 143 121; sched_getscheduler 145 120;
sched_get_priority_max 146 125; sched_get_priority_min 147 126; exit 60 93; exit_group 231 94; nanosleep 35 101;
clock_nanosleep 230 115; clock_gettime 228 113; clock_getres 229 114; gettimeofday 96 169; time 201 -;
times 100 153; getrusage 98 165; getrandom 318 278; restart_syscall 219 128; arch_prctl 158 -; getcpu 309 168;
sysinfo 99 179; uname 63 160; getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177; getgroups 115 158;
getresuid 118 148; getresgid 120 150; getrlimit 97 163;
# Signals to itself
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; sigaltstack 131 132;
# Sockets that exist already
sendto 44 206; recvfrom 45 207; sendmsg 46 211; recvmsg 47 212; shutdown 48 210; getsockname 51 204;
getpeername 52 205; getsockopt 55 209; setsockopt 54 208; accept 43 202; accept4 288 242;
# More confinement
seccomp 317 277; landlock_create_ruleset 444 444; landlock_add_rule 445 445; landlock_restrict_self 446 446;
# By their arguments only
prctl 157 167; prlimit64 302 261; tgkill 234 131; clone 56 220; clone3 435 435; socket 41 198; socketpair 53 199;
bind 49 200; listen 50 201;
"""
"""`name number-on-x86_64 number-on-aarch64;` with `-` where an architecture does not have it."""

_COLUMNS = {"x86_64": 1, "aarch64": 2}
NEWEST = 450
"""The newest number that this table's author has considered; later ones answer "not implemented", and libraries do without."""


def numbers(machine: str) -> dict[str, int]:
    """Name to number on `machine`, which is `x86_64` or `aarch64`."""
    column = _COLUMNS[machine]
    lines = [line for line in _TABLE.splitlines() if not line.startswith("#")]
    rows = [entry.split() for entry in " ".join(lines).split(";") if entry.strip()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
