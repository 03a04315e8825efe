"""The file systems that an origin may be in: those on which a lock excludes every process that can write there.

Two publishers may use one origin for a while: one that was suspended and resumes, and its successor. A lock ensures that only one of them
replaces the timestamp, and ``flock`` (man 2 flock) guarantees that only on local file systems. On NFS it depends on each machine's
mount options (``nolock``, ``local_lock``; man 5 nfs), on SMB on the server (``nobrl``; man 8 mount.cifs), and each cluster file system has
its own rules. On a network file system, other machines also see a rename only after a while (close-to-open consistency).

In: a directory. Out: the type of the network file system that it is in, if any. Works on Linux only; elsewhere the type is unknown.
"""

import re
from pathlib import Path
from typing import Final

NETWORK_TYPES: Final = frozenset(
    {
        *("nfs", "nfs4"),  # Linux fs/nfs/fs_context.c
        *("cifs", "smb3", "smbfs", "ncpfs"),  # Linux fs/smb/client/cifsfs.c; the last two in kernels before 5
        *("afs", "coda", "ceph", "ocfs2", "gfs2", "orangefs", "pvfs2"),  # Linux fs/*, the file_system_type.name of each
        *("lustre", "beegfs", "gpfs", "glusterfs"),  # modules outside the kernel
    }
)
"""Types in ``/proc/self/mountinfo`` (man 5 proc_pid_mountinfo) that several machines can write to."""

LOCAL_FUSE_TYPES: Final = frozenset(
    f"fuse.{name}" for name in ("fuse-overlayfs", "mergerfs", "bindfs", "unionfs", "gocryptfs", "encfs", "ext2", "fuse2fs", "lxcfs")
)
"""File systems in user space (FUSE) whose files are on this machine. All others (sshfs, s3fs, gcsfuse, rclone, …) count as remote."""

MOUNTS: Final = Path("/proc/self/mountinfo")

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def network_type(directory: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the network file system that a directory is in.

    Args:
        directory: an existing directory.
        mounts: the table of mounts, in the format of ``/proc/self/mountinfo``.

    Returns:
        The type, such as ``nfs4``; empty for a local file system, and if the type can't be determined.
    """
    try:
        table = mounts.read_text(errors="surrogateescape")
    except OSError:
        return ""
    place = directory.resolve()
    found, depth = "", -1
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.partition(" ")[0]
        if len(fields) < 5:  # noqa: PLR2004 (the fifth is the mount point)
            continue
        point = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # If two file systems are mounted at one point, the later mount hides the earlier one.
        if place.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = kind, len(point.parts)
    is_remote = found in NETWORK_TYPES or (found.partition(".")[0] == "fuse" and found not in LOCAL_FUSE_TYPES)
    return found if is_remote else ""
