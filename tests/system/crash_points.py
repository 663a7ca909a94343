#!/usr/bin/env python3
"""Every CRASH_POINT of the server on real processes: kill -9 there, and what the next start makes of it.

A follower is brought back by snapshots and dies at every step of that; members come and go through
joint configurations, and leaders, followers and newcomers die at every step of that. After each, under
load: the killed are ready again, nothing acknowledged is lost, digests are equal, no half of a table is
left, no configuration is joint, and who is wanted votes.

crash_points.py [--seed S]; of a build with --enable-verify
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

from cluster import Cluster, program, wait_for
from load import Load

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src")
TRANSFER = {"Content-Type": "application/json"}

# A follower that is behind the log's beginning dies there while it takes a snapshot, ...
BEFORE_SWITCH = ["stage-begun", "stage-chunk", "stage-chunk:3", "stage-before-sync",
                 "stage-before-rename", "stage-before-dir-sync", "stage-done", "install-begun",
                 "switch-before-commit"]
BEHIND_SWITCH = ["switch-after-commit", "install-published", "delete-before", "delete-half:2"]
# ... and when it starts, behind one that left half a table.
AT_START = ["delete-before", "delete-half"]
# Who dies where while a member comes, goes, comes ...: leader, follower, newcomer. At its start a node
# passes placement-applied once. Configurations of one change: learner (who comes), joint, left; each in
# two groups.
AT_CHANGES = [
    ("conf-proposed", "conf-before-commit:3", "conf-applied"),
    ("placement-proposed", "conf-after-commit:2", None),
    ("conf-before-commit:2", "placement-applied:2", "conf-after-commit"),
    ("conf-applied:2", "conf-applied", None),
    ("conf-after-commit:4", "conf-applied:3", "placement-applied"),
    ("conf-proposed:2", "conf-before-commit", None),
    ("placement-applied:2", "conf-after-commit", "conf-before-commit"),
]


def refuse_other_builds():
    """Only a build for tests looks at the variable."""
    r = subprocess.run([program("trilithd"), "--address", "127.0.0.1:1", "--data-dir", "/proc/none"],
                       env={**os.environ, "TL_CRASH_POINT": ":"}, stderr=subprocess.PIPE)
    if b"TL_CRASH_POINT" not in r.stderr:
        raise SystemExit("crash_points: trilithd is not configured with --enable-verify")


def points_of_source():
    points = set()
    for directory, _, files in os.walk(SOURCE):
        for name in files:
            with open(os.path.join(directory, name), errors="replace") as source:
                points.update(re.findall(r'CRASH_POINT\("([^"]*)"\)', source.read()))
    return points


class Run:
    """A cluster with load, and who has died where."""

    def __init__(self, cluster, load):
        self.cluster, self.load = cluster, load
        self.hits = {}                    # point[:n] -> who died there
        self.armed = {}                   # node -> (its role, point[:n]) while it is to die

    def arm(self, node, role, point):
        self.armed[node] = (role, point)
        node.deaths = node.log_text().count(told(point)) if os.path.exists(node.log) else 0
        node.start(env={"TL_CRASH_POINT": point})

    def take_death(self, node):
        """Whether it has died: it did so where it was to."""
        if node.running:
            return False
        role, point = self.armed.pop(node)
        assert node.process.returncode == -signal.SIGKILL, (point, node.process.returncode)
        assert node.log_text().count(told(point)) == node.deaths + 1, (point, node.log)
        self.hits.setdefault(point, []).append(role)
        return True

    def revive(self):
        """Starts who has died, to live; whether all have that were to die."""
        for node in list(self.armed):
            if self.take_death(node):
                inspect(node)
                node.start()
        return not self.armed

    def wait_deaths(self):
        try:
            wait_for(self.revive, 30, "deaths")
        except AssertionError as error:
            raise AssertionError(f"{error}: {list(self.armed.values())}") from None

    def settle(self):
        """What holds again, whoever died where."""
        nodes = self.cluster.nodes
        self.cluster.wait_members(nodes)
        self.cluster.wait_ready(timeout=30)
        self.load.pause()
        self.load.check()
        self.cluster.wait_equal()
        for node in nodes:
            wait_for(lambda: len(tables_of(node)) == 2, 20, f"one table a group in {node.dir}", node)
            assert not leftovers_of(node), leftovers_of(node)
        self.load.resume()


def told(point):
    return f"killed at crash point {point.split(':')[0]}\n"


def tables_of(node):
    return [name for name in os.listdir(node.dir) if name.startswith("kv.")]


def number_of(table):
    return int(table.rsplit(".", 1)[1])


def leftovers_of(node):
    """Files of a table that is being made."""
    return [file for table in tables_of(node) for file in os.listdir(os.path.join(node.dir, table))
            if file.startswith("stage")]


def log_of(node):
    """First and last index of the data group."""
    groups = node.request("GET", "/v1/status").json()["groups"]
    return next((g["first"], g["last"]) for g in groups if g["group"] == 1)


def inspect(node):
    """The groups of one that is down; all that its directory holds is whole."""
    r = subprocess.run([program("trilith"), "-o", "json", "inspect", node.dir], capture_output=True)
    assert r.returncode == 0, r
    return json.loads(r.stdout)["groups"]


def leave_behind(run, away):
    """Kills it, and the log goes on without what it would need: who stops has flushed, and has nothing
    of that in memory either."""
    last = log_of(away)[1]
    away.kill()
    rest = [n for n in run.cluster.nodes if n is not away]
    wait_for(lambda: all(log_of(n)[1] > last + 20 for n in rest), 30, "writes")
    for node in rest:
        node.kill(signal.SIGTERM)
        node.start()
        run.cluster.wait_ready([node])
    wait_for(lambda: all(log_of(n)[0] > last + 1 for n in rest), 30, "the log to be deleted")


def install(run, point, is_new, at_start=None):
    """A follower takes a snapshot and dies on the way: with a new table in use, or the old one."""
    away = run.cluster.followers()[0]
    leave_behind(run, away)
    run.arm(away, "receiver", point)
    wait_for(lambda: run.take_death(away), 30, point)
    used = [os.path.basename(group["table"]["directory"]) for group in inspect(away)]
    unused, = set(tables_of(away)) - set(used)
    of_group = next(name for name in used if name.split(".")[1] == unused.split(".")[1])
    assert (number_of(of_group) > number_of(unused)) == is_new, (point, used, unused)
    if at_start is not None:
        run.arm(away, "starting", at_start)
        wait_for(lambda: run.take_death(away), 30, at_start)
    away.start()
    run.settle()


def make_leader(run, node):
    """Of every group: the steps of a change are taken by their leaders."""
    for group in (0, 1):
        body = json.dumps({"group": group, "address": node.address})

        def leads():
            answer = node.request("POST", "/v1/cluster/leader", body=body, headers=TRANSFER)
            return answer.status == 200

        wait_for(leads, 20, f"{node.address} to lead group {group}", node)


def change(run, newcomer, at_leader, at_follower, at_newcomer):
    """A member comes, or the newcomer of before goes, and somebody dies at each of these points."""
    cluster = run.cluster
    leader, follower = [n for n in cluster.nodes if n is not newcomer][:2]
    for node, role, point in ((follower, "follower", at_follower), (leader, "leader", at_leader)):
        node.kill(signal.SIGTERM)         # flushed: nothing is applied again when it starts
        run.arm(node, role, point)
        cluster.wait_ready([node])
    make_leader(run, leader)
    if newcomer is None:
        newcomer = cluster.add(join=cluster.nodes[2])
        run.arm(newcomer, "newcomer", at_newcomer)
    else:
        cluster.drop(newcomer)
        asked = threading.Thread(target=remove, args=(cluster, newcomer))
        asked.start()
    run.wait_deaths()
    if newcomer not in cluster.nodes:
        asked.join()
        wait_for(lambda: not newcomer.running, 30, f"{newcomer.address} to end")
        assert newcomer.process.returncode == 3, newcomer.process.returncode
        newcomer.empty()                  # the next one may get its port
        cluster.removed.remove(newcomer)
        newcomer = None
    run.settle()
    return newcomer


def remove(cluster, node):
    """Asks until it is done: whoever is asked may die of it."""
    def is_removed():
        for other in cluster.nodes:
            try:
                answer = other.request("DELETE", "/v1/cluster/members/" + node.address)
                if answer.status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                pass
        return False

    wait_for(is_removed, 60, f"{node.address} to be removed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    began = time.monotonic()
    print(f"crash_points: seed {args.seed}", flush=True)
    refuse_other_builds()
    with Cluster(3, options=["--log-retain", "0"]) as cluster:
        fill = [program("trilith-bench"), "--targets", cluster.leader().address, "--fill", "--keys", "20000"]
        assert json.loads(subprocess.check_output(fill))["ok"] == 20000
        with Load(cluster, clients=2, seed=args.seed) as load:
            run = Run(cluster, load)
            for point in BEFORE_SWITCH:
                install(run, point, is_new=False)
            for point in BEHIND_SWITCH:
                install(run, point, is_new=True)
            for point in AT_START:
                install(run, "stage-chunk", is_new=False, at_start=point)
            newcomer = None
            for points in AT_CHANGES:
                newcomer = change(run, newcomer, *points)
    deaths = sum(len(roles) for roles in run.hits.values())
    missed = points_of_source() - {point.split(":")[0] for point in run.hits}
    assert not missed, f"nobody died at {sorted(missed)}"
    print(f"crash_points: {deaths} deaths at {len(points_of_source())} points, which are all; "
          f"{load.acked} writes acknowledged, none lost; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
