"""Disks whose power can be cut: ext4 on a loop device, one for each node.

EXT4_IOC_SHUTDOWN with NOLOGFLUSH stops all input and output of the file system at once; what was not
flushed is not there after the next mount. The device itself keeps what it was given: a volatile cache
that loses completed writes is not modelled.

A file system that another mount namespace has as well outlives its unmount, so enter() makes a private
one first. All of it goes with the last process in it: the loop devices are released by the kernel.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time

SHUTDOWN = 0x8004587D                     # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2
CLONE_NEWNS = 0x00020000
PR_SET_PDEATHSIG = 1
IMAGE_BYTES = 512 << 20                   # sparse; a node refuses writes below 128 MiB free
# Nothing is flushed unless somebody asks for it. Not "discard": what a transaction frees that the
# shutdown has ended would be discarded all the same, which no power cut does.
OPTIONS = "loop,lazytime,commit=300"


def refusal():
    """Why no disk can be made here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    for name in ("mkfs.ext4", "mount", "umount", "setpriv"):
        if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"needs {name}"
    return None


def run(*command):
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    r = subprocess.run(command, capture_output=True, text=True, env=env)
    if r.returncode != 0:
        raise OSError(f"{' '.join(command)}: {r.stderr.strip()}")


def enter():
    """From now on what this process mounts is seen by its children only, and it ends with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
    run("mount", "--make-rprivate", "/")


class Disk:
    def __init__(self, image, mount):
        self.image, self.mount_point, self.is_mounted = image, mount, False
        with open(image, "wb") as f:
            f.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-J", "size=8", "-E", "nodiscard,lazy_itable_init=1", image)
        os.makedirs(mount, exist_ok=True)
        self.mount()

    def mount(self):
        run("mount", "-t", "ext4", "-o", OPTIONS, self.image, self.mount_point)
        self.is_mounted = True

    def cut(self):
        """The power is gone. The processes that use it are still to be ended."""
        fd = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        deadline = time.monotonic() + 10
        while self.is_mounted:
            try:
                run("umount", self.mount_point)
                self.is_mounted = False
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)          # an ended process is still letting go

    def restore(self):
        """The power is back."""
        self.unmount()
        self.mount()

    def destroy(self):
        self.unmount()
        os.unlink(self.image)


def room_for(directory, bytes_count):
    """Whether so many bytes may be used there."""
    try:
        status = os.statvfs(directory)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return status.f_bavail * status.f_frsize >= bytes_count and os.access(directory, os.W_OK)
