#!/usr/bin/env python3
"""A rolling upgrade, and back, under load, with the binaries of both versions.

upgrade.py [--old DIR] [--revision REV] [--rounds N]

Three nodes of the old version; each in turn is stopped and started as one of the new version, then each
in turn as one of the old again, while clients write small values and values of 1 MiB. Whichever versions
are mixed: what was acknowledged is there at the end, and no client waits long for a write.

--old names the directory of the old trilithd. Without it, it is built from a revision of this repository
(as the new one is configured, in a directory of its own that is kept for the next time); without git, or
without that revision, the test says so and passes.
"""

import argparse
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import cluster
from cluster import Cluster, wait_for

REVISION = "a646f54805"         # the last one before hellos had features
LARGE = 1024 * 1024 - 64
OUTAGE_S = 5                    # of a version that is asked to stop: it hands over first


class NoOldVersion(Exception):
    pass


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if done.returncode != 0:
        raise NoOldVersion(f"{' '.join(command[:3])}: {done.stdout.decode(errors='replace')[-300:]}")


def build_old(revision):
    """The directory of the old version's trilithd, built unless it is there."""
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    target = os.path.join(os.path.abspath(cluster.BUILD), f"old-{revision}")
    build = os.path.join(target, "build")
    if os.path.exists(os.path.join(build, "trilithd")):
        return build
    if shutil.which("git") is None:
        raise NoOldVersion("git is not installed")
    run("git", "-C", source, "cat-file", "-e", f"{revision}^{{commit}}")
    os.makedirs(build, exist_ok=True)
    archive = os.path.join(target, "source.tar")
    run("git", "-C", source, "archive", "-o", archive, revision)
    run("tar", "-xf", archive, "-C", target)
    if not os.path.exists(os.path.join(target, "configure")):
        run("autoreconf", "-i", cwd=target)
    run("../configure", "CFLAGS=-g -O1", cwd=build)
    run("make", "-s", "-j2", "trilithd", cwd=build)
    return build


class Writer(threading.Thread):
    """Owns one key; every value begins with a number that rises. A write is tried at one node after the
    other until it is acknowledged."""

    def __init__(self, nodes, number, is_large):
        super().__init__(daemon=True)
        self.nodes, self.key, self.is_large = nodes, f"writer/{number}", is_large
        self.stop = threading.Event()
        self.acked, self.slowest, self.count = 0, 0.0, 0

    def value(self, number):
        text = b"%010d" % number
        return text.ljust(LARGE, b"x") if self.is_large else text

    def run(self):
        number, at = 0, 0
        while not self.stop.is_set():
            number += 1
            begin = time.monotonic()
            while not self.stop.is_set():
                try:
                    if self.nodes[at % len(self.nodes)].put(self.key, self.value(number),
                                                            timeout=6).status in (200, 201):
                        self.acked, self.count = number, self.count + 1
                        break
                except (OSError, http.client.HTTPException):
                    pass
                at += 1
                time.sleep(0.02)
            self.slowest = max(self.slowest, time.monotonic() - begin)
            time.sleep(0.1 if self.is_large else 0.005)

    def check(self, node):
        found = node.get(self.key, timeout=10)
        number = int(found.body[:10])
        assert found.status == 200 and number >= self.acked, (self.key, number, self.acked)
        assert found.body == self.value(number)


def replace(cluster, node, program):
    """Stops the node and starts it as another version."""
    node.process.send_signal(signal.SIGTERM)
    assert node.wait(20) == 0, f"{node.address} ended with {node.process.returncode}"
    node.program = program
    node.start()
    cluster.wait_ready([node], timeout=30)


def refused_count(node):
    return sum("peer_connection_refused" in line for line in node.log_text().splitlines())


def upgrade(old, rounds):
    versions = {"old": os.path.join(old, "trilithd"), "new": cluster.program("trilithd")}
    with Cluster(3, start=False) as c:
        for node in c.nodes:
            node.program = versions["old"]
            node.start()
        c.wait_ready()
        writers = [Writer(c.nodes, n, n >= 4) for n in range(6)]
        for writer in writers:
            writer.start()
        time.sleep(1)
        for number in range(rounds):
            for name in ("new", "old"):
                for node in c.nodes if number % 2 == 0 else reversed(c.nodes):
                    replace(c, node, versions[name])
                    time.sleep(1)
        for writer in writers:
            writer.stop.set()
        for writer in writers:
            writer.join()
        for node in c.nodes:        # the last word is the new version's, on what the old one has written
            replace(c, node, versions["new"])
        c.wait_equal()
        for node in c.nodes:
            for writer in writers:
                writer.check(node)
        slowest = max(w.slowest for w in writers)
        print(f"upgrade: {rounds} rounds of old to new and back, {sum(w.count for w in writers)} writes "
              f"({sum(w.count for w in writers if w.is_large)} of 1 MiB) acknowledged, none lost, the "
              f"slowest after {slowest:.2f} s, connections refused: "
              f"{[refused_count(n) for n in c.nodes]}")
        assert slowest < OUTAGE_S, slowest
        assert all(w.count > 0 for w in writers)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", help="directory of the old trilithd")
    parser.add_argument("--revision", default=REVISION)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    try:
        old = args.old or build_old(args.revision)
    except NoOldVersion as error:
        print(f"upgrade: skipped: no old version: {error}")
        return
    upgrade(old, args.rounds)


if __name__ == "__main__":
    main()
