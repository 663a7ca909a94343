#!/usr/bin/env python3
"""No write is acknowledged before its log flush on a majority: counted and held up by sync_shim.so."""

import os
import threading
import time

from cluster import Cluster, wait_for
from shim import Shim


def counted(cluster, shims, writes=200):
    """One client, one write at a time: between its start and its end two logs were flushed."""
    leader = cluster.leader()
    for number in range(writes):
        before = [s.get("commits") for s in shims]
        assert leader.put("counted", str(number)).status in (200, 201)
        flushed = sum(s.get("commits") > b for s, b in zip(shims, before))
        assert flushed >= 2, f"write {number} was acknowledged with {flushed} flushes"
    print(f"synced: {writes} writes, each acknowledged after a flush on a majority")


def held(cluster, shims, holders, must_wait):
    """With the flushes of `holders` held up, a write is acknowledged or waits."""
    leader = cluster.leader()
    done = threading.Event()
    answers = []

    def write():
        answers.append(leader.put("held", "x", timeout=8))
        done.set()

    for i in holders:
        shims[i].set("hold", 1)
    thread = threading.Thread(target=write)
    thread.start()
    waited = not done.wait(0.4)
    for i in holders:
        shims[i].set("hold", 0)
    thread.join()
    assert waited == must_wait, f"held {holders}: waited {waited}"
    assert answers[0].status in (200, 201, 503, 504), answers


def main():
    with Cluster(3, start=False) as cluster:
        shims = [Shim(os.path.join(cluster.dir, f"shim{i}")) for i in range(3)]
        for node, shim in zip(cluster.nodes, shims):
            node.start(env=shim.env)
        cluster.wait_ready()
        counted(cluster, shims)
        leader = cluster.nodes.index(cluster.leader())
        rest = [i for i in range(3) if i != leader]
        held(cluster, shims, rest[:1], must_wait=False)
        held(cluster, shims, rest, must_wait=True)
        cluster.wait_ready()
        leader = cluster.nodes.index(cluster.leader())
        rest = [i for i in range(3) if i != leader]
        held(cluster, shims, [leader, rest[0]], must_wait=True)
        print("synced: one flush held up: acknowledged; two held up: not acknowledged until released")
        fail_one(cluster, shims)


def fail_one(cluster, shims):
    """An error of a log flush ends the process with 4, and the others go on."""
    cluster.wait_ready()
    leader = cluster.leader()
    shims[cluster.nodes.index(leader)].set("fail", 1)
    try:
        leader.put("failed", "x", timeout=3)
    except OSError:
        pass
    assert leader.wait(5) == 4, leader.process.returncode
    assert "event=storage_failed" in leader.log_text()
    shims[cluster.nodes.index(leader)].set("fail", 0)
    rest = [n for n in cluster.nodes if n is not leader]
    wait_for(lambda: rest[0].put("failed", "y").status in (200, 201), 20, "a write without it")
    leader.start()
    cluster.wait_ready()
    cluster.wait_equal()
    assert cluster.nodes[0].get("failed").body == b"y"
    print("synced: a failed flush ended the process with exit code 4; it came back and caught up")


if __name__ == "__main__":
    start = time.monotonic()
    main()
