#!/usr/bin/env python3
"""A follower that was away while the log went on past its retention comes back by a snapshot.

First with writes going on, whose speed is compared with that before; then with ten kill -9 during
the transfer, at the receiver and at the sender in turn. Digests are equal at the end.

snapshot.py [--rows N] [--kills N] [--speed-share SHARE]
"""

import argparse
import json
import random
import re
import subprocess
import time

from cluster import Cluster, program, wait_for


class Load:
    """trilith-bench writing to these nodes until it is stopped."""

    def __init__(self, nodes, rows, seconds=600):
        self.process = subprocess.Popen(
            [program("trilith-bench"), "--targets", ",".join(n.address for n in nodes), "--keys",
             str(rows), "--value-bytes", "256", "--connections", "32", "--seconds", str(seconds)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def fill(leader, rows):
    out = subprocess.check_output([program("trilith-bench"), "--targets", leader.address, "--fill",
                                   "--keys", str(rows), "--value-bytes", "256"])
    assert json.loads(out)["ok"] == rows, out


def status_of(node):
    return node.request("GET", "/v1/status").json()


def commit_of(node):
    return next(g["commit"] for g in status_of(node)["groups"] if g["group"] == 1)


def transfer_of(node):
    """The snapshot of the data group on its way from or to the node, or None."""
    try:
        found = [t for t in status_of(node)["transfers"] if t["group"] == 1]
    except OSError:
        return None
    return found[0] if found else None


def speed(node, seconds):
    start, commit = time.monotonic(), commit_of(node)
    time.sleep(seconds)
    return (commit_of(node) - commit) / (time.monotonic() - start)


def p99_of(node):
    disk = status_of(node)["disk"]
    return disk["log_commit"]["p99_us"], disk["log_commit_during_flush"]["p99_us"]


def installs_of(node):
    try:
        return node.metrics().get("trilith_snapshots_installed_total", 0)
    except OSError:
        return 0


def leave_behind(cluster, away, rows):
    """Kills `away` and writes until the leader's log begins behind it."""
    away.kill()
    leader = cluster.leader()
    fill(leader, rows)
    def is_left_behind():
        leader.put("tick", str(time.monotonic()))
        return next(g for g in status_of(leader)["groups"] if g["group"] == 1)["first"] > rows / 4
    wait_for(is_left_behind, 30, "the log to be deleted")


def show_speed(cluster, away, rows, share):
    leader = cluster.leader()
    with Load([leader], rows):
        time.sleep(2)
        before = speed(leader, 4)
        p99_before = p99_of(leader)
        away.start()
        wait_for(lambda: transfer_of(away) is not None, 30, "a transfer to begin", away)
        start, commit = time.monotonic(), commit_of(leader)
        bytes_count = transfer_of(leader)["bytes"]
        wait_for(lambda: installs_of(away) > 0, 600, "the snapshot to be installed", away)
        elapsed = time.monotonic() - start
        during = (commit_of(leader) - commit) / elapsed
        cluster.wait_ready([away], timeout=120)
        caught_up = time.monotonic() - start
        time.sleep(2)
        after = speed(leader, 4)
        p99 = p99_of(leader)
    digest = cluster.wait_equal(60)
    print(f"snapshot: {rows} rows, {bytes_count >> 20} MiB in {elapsed:.1f} s, ready after "
          f"{caught_up:.1f} s; writes/s before {before:.0f} (two nodes), during {during:.0f}, after "
          f"{after:.0f} (three); log commit p99 us (idle, flushing) before {p99_before}, "
          f"all in all {p99}; {digest[2]} rows, equal digests", flush=True)
    assert during >= share * min(before, after), (before, during, after)


def kill_during_transfer(cluster, away, rows, kills):
    leave_behind(cluster, away, rows)
    away.start()
    killed = {"receiver": 0, "sender": 0}
    with Load([n for n in cluster.nodes if n is not away], rows):
        for i in range(kills):
            leader = cluster.leader(30)
            least = random.random() * 0.6
            seen = []
            def is_under_way():
                t = transfer_of(away)
                seen.append(t)
                return t and t["stage"] == "receive" and t["bytes_done"] >= least * t["bytes"]
            wait_for(is_under_way, 60, f"transfer {i} to be under way", away)
            victim = away if i % 2 == 0 else leader
            killed["receiver" if victim is away else "sender"] += 1
            victim.kill()
            time.sleep(random.random() * 0.5)
            victim.start()
        wait_for(lambda: installs_of(away) > 0, 600, "the snapshot to be installed", away)
    cluster.wait_ready(timeout=120)
    digest = cluster.wait_equal(60)
    resumes = sum(len(re.findall("event=snapshot_send_resume", n.log_text())) for n in cluster.nodes)
    begun = sum(len(re.findall("event=snapshot_send_begin", n.log_text())) for n in cluster.nodes)
    print(f"snapshot: arrived after {killed['receiver']} kills of the receiver and {killed['sender']} "
          f"of the sender; {begun} cut, {resumes} resumed; {digest[2]} rows, equal digests")
    assert digest[2] >= rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--speed-share", type=float, default=0.7)
    args = parser.parse_args()
    # Less than what is written while the follower is away; four times of it hold a transfer's time.
    retain = max(args.rows * 60, 4 << 20)
    with Cluster(3, options=["--log-retain", str(retain)]) as cluster:
        away = cluster.followers()[0]
        leave_behind(cluster, away, args.rows)
        show_speed(cluster, away, args.rows, args.speed_share)
        kill_during_transfer(cluster, away, args.rows, args.kills)


if __name__ == "__main__":
    main()
