"""The system calls that a Python program makes: their numbers, and what each of them concerns."""

import platform
from dataclasses import dataclass
from typing import Final, Literal

Concern = Literal["fd", "path", "at", "two paths", "two at", "private"]
"""Where a call names what it is about: descriptor, path, folder and path, the same twice, or nothing outside."""

_TABLE: Final = """
name              x86_64 aarch64 concern
read            0      63      fd
write           1      64      fd
open            2      -       path
close           3      57      fd
stat            4      -       path
fstat           5      80      fd
lstat           6      -       path
poll            7      -       private
lseek           8      62      fd
mmap            9      222     private
mprotect        10     226     private
munmap          11     215     private
brk             12     214     private
rt_sigaction    13     134     private
rt_sigprocmask  14     135     private
rt_sigreturn    15     139     private
ioctl           16     29      fd
pread64         17     67      fd
pwrite64        18     68      fd
readv           19     65      fd
writev          20     66      fd
access          21     -       path
sched_yield     24     124     private
mremap          25     216     private
madvise         28     233     private
dup             32     23      fd
nanosleep       35     101     private
getpid          39     172     private
socket          41     198     private
connect         42     203     fd
sendto          44     206     fd
recvfrom        45     207     fd
shutdown        48     210     fd
getsockname     51     204     fd
getpeername     52     205     fd
setsockopt      54     208     fd
getsockopt      55     209     fd
clone           56     220     private
execve          59     221     path
exit            60     93      private
kill            62     129     private
uname           63     160     private
fcntl           72     25      fd
flock           73     32      fd
fsync           74     82      fd
fdatasync       75     83      fd
truncate        76     45      path
ftruncate       77     46      fd
rename          82     -       two paths
mkdir           83     -       path
rmdir           84     -       path
creat           85     -       path
link            86     -       two paths
unlink          87     -       path
readlink        89     -       path
chmod           90     -       path
fchmod          91     52      fd
chown           92     -       path
fchown          93     55      fd
umask           95     166     private
gettimeofday    96     169     private
sysinfo         99     179     private
getuid          102    174     private
getgid          104    176     private
geteuid         107    175     private
getegid         108    177     private
getppid         110    173     private
statfs          137    43      path
prctl           157    167     private
gettid          186    178     private
futex           202    98      private
sched_getaffinity 204  123     private
getdents64      217    61      fd
clock_gettime   228    113     private
clock_nanosleep 230    115     private
exit_group      231    94      private
tgkill          234    131     private
openat          257    56      at
mkdirat         258    34      at
newfstatat      262    79      at
unlinkat        263    35      at
renameat        264    38      two at
readlinkat      267    78      at
fchmodat        268    53      at
faccessat       269    48      at
pselect6        270    72      private
ppoll           271    73      private
set_robust_list 273    99      private
fallocate       285    47      fd
renameat2       316    276     two at
getrandom       318    278     private
statx           332    291     at
rseq            334    293     private
clone3          435    435     private
faccessat2      439    439     at
"""


@dataclass(frozen=True)
class Kind:
    """A system call by its name, and where its arguments say what it concerns."""

    name: str
    concern: Concern


def calls_of(machine: str) -> dict[int, Kind]:
    """Every call of the table by its number on this machine; empty for a machine that the table does not know."""
    header, *rows = (line.split(None, 3) for line in _TABLE.strip().splitlines())
    if machine not in header:
        return {}
    column = header.index(machine)
    concerns: dict[str, Concern] = {each: each for each in ("fd", "path", "at", "two paths", "two at", "private")}  # pyright: ignore[reportAssignmentType] - the literals are those of Concern
    return {int(row[column]): Kind(row[0], concerns[row[3]]) for row in rows if row[column] != "-"}


CALLS: Final = calls_of(platform.machine())
