#!/usr/bin/env python3
"""A node whose table is flushed slowly keeps its memory within bounds, loses nothing and catches up.

slow_flush.py [--seconds N] [--role follower|leader]

Each flush of one node's table takes 2.5 s longer than it would, while 16 connections put values of 64 KiB and
clients that remember what was acknowledged write beside them. RssAnon of every node is sampled all the time.
As leader, the node refuses what it cannot apply in time (503 stalled), and stays within the same bound.
"""

import argparse
import os
import threading
import time

from cluster import Cluster
from load import Caller, Load
from shim import Shim

MB = 1000 * 1000
RSS_ANON_MAX = 300 * MB
DELAY_US = 2_500_000
CATCH_UP_S = 120
CONNECTIONS = 16
VALUE_BYTES = 64 * 1024
PERIOD_S = 0.025  # all in all 42 MB/s: 12.6 GB of log on the slow node in five minutes
KEYS = 200


class Memory(threading.Thread):
    """The largest RssAnon of each node."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.stop_now = cluster, threading.Event()
        self.most = [0] * len(cluster.nodes)

    def run(self):
        while not self.stop_now.wait(0.2):
            for i, node in enumerate(self.cluster.nodes):
                self.most[i] = max(self.most[i], node.rss_anon())

    def stop(self):
        self.stop_now.set()
        self.join(10)
        return self.most


class Filler(Caller):
    """Puts large values over a few keys, whatever the answers, no faster than PERIOD_S allows."""

    def run(self):
        value = os.urandom(VALUE_BYTES)
        self.done = 0
        next_at = time.monotonic()
        while not self.stop_now.is_set():
            next_at = max(next_at + PERIOD_S, time.monotonic() - 1)
            time.sleep(max(0, next_at - time.monotonic()))
            key = self.random.randrange(KEYS)
            answer = self.request("PUT", f"/v1/kv/large/{key}", value, {})
            self.done += answer.status in (200, 201)


def slow(role, seconds):
    with Cluster(3, start=False) as cluster:
        shims = []
        for node in cluster.nodes:
            shims.append(Shim(os.path.join(cluster.dir, f"{node.port}.shim")))
            node.env = shims[-1].env
            node.start()
        cluster.wait_ready()
        node = cluster.leader() if role == "leader" else cluster.followers()[0]
        i = cluster.nodes.index(node)
        memory = Memory(cluster)
        memory.start()
        with Load(cluster, clients=4) as load:
            shims[i].set("table_delay_us", DELAY_US)
            fillers = [Filler(cluster, 100 + n, 1) for n in range(CONNECTIONS)]
            for filler in fillers:
                filler.start()
            time.sleep(seconds)
            for filler in fillers:
                filler.stop_now.set()
            for filler in fillers:
                filler.join(30)
            group = cluster.data_group(node)
            behind = group["commit"] - group["applied"]
            shims[i].set("table_delay_us", 0)
            load.stop()
        began = time.monotonic()
        cluster.wait_equal(CATCH_UP_S)
        caught_up = time.monotonic() - began
        load.check()
        most = memory.stop()
        assert all(n.running for n in cluster.nodes)
        done = sum(f.done for f in fillers)
        assert done > 10 * seconds, done
        assert max(most) <= RSS_ANON_MAX, [m // MB for m in most]
        if role == "follower":
            assert behind > 0, "its flushes held nothing up"
        print(f"slow_flush: {role}'s table flushes 2.5 s slower for {seconds} s: "
              f"{done} puts of 64 KiB, {load.acked} acknowledged beside them, none lost; "
              f"RssAnon at most {' '.join(str(m // MB) for m in most)} MB (it: {most[i] // MB}); "
              f"{behind} entries not applied at the end, caught up after {caught_up:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--role", choices=["follower", "leader"])
    args = parser.parse_args()
    for role in [args.role] if args.role else ["follower", "leader"]:
        slow(role, args.seconds)


if __name__ == "__main__":
    main()
