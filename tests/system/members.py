#!/usr/bin/env python3
"""Nodes come and go on real processes: 3 -> 5 -> 3 under load, emptied disks, what is refused.

members.py [--kills] [--seed S] [PART...]

  --kills   kill -9 of somebody every two seconds while nodes come and go
  PART      refused, old_copy, two_emptied, emptied, come_and_go: all by default
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import threading
import time

from cluster import Cluster, program, wait_for
from linear import Load


class Killer(threading.Thread):
    """kill -9 of one of the nodes every two seconds, and its start at once."""

    def __init__(self, cluster, seed):
        super().__init__(daemon=True)
        self.cluster, self.random = cluster, random.Random(seed)
        self.stop_now, self.lock, self.kills = threading.Event(), threading.Lock(), 0

    def run(self):
        while not self.stop_now.wait(2):
            with self.lock:
                node = self.random.choice([n for n in self.cluster.nodes if n.running])
                node.kill()
                node.start()
                self.kills += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop_now.set()
        self.join(30)


class Nobody:
    lock, kills = threading.Lock(), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def trilith(cluster, *args):
    endpoints = ",".join(n.address for n in cluster.nodes if n.running)
    r = subprocess.run([program("trilith"), "-e", endpoints, *args], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    return r.returncode, r.stdout, r.stderr


def waits_for(node):
    try:
        return node.request("GET", "/v1/status", timeout=2).json().get("waits_for", "")
    except OSError:
        return ""


def change(cluster, method, path, body=None, timeout=60):
    """Asks until the answer is definite: leaders come and go meanwhile."""
    answer = []

    def asked():
        for node in cluster.nodes:
            try:
                answer[:] = [node.request(method, "/v1/cluster/members" + path, body=body)]
            except OSError:
                continue
            if answer[0].status not in (429, 503, 504):
                return True
        return False

    wait_for(asked, timeout, f"{method} {path}")
    return answer[0]


def remove(cluster, node, killer):
    with killer.lock:
        answer = change(cluster, "DELETE", "/" + node.address)
        assert answer.status in (200, 202), answer
    rest = [n for n in cluster.nodes if n is not node]
    with killer.lock:
        cluster.drop(node)
    cluster.wait_members(rest)
    wait_for(lambda: not node.running, 30, f"{node.address} to end")
    assert node.process.returncode == 3, node.process.returncode
    node.start()                          # and again: it is refused for ever
    assert node.wait(30) == 3, node.process.returncode
    assert "was removed from its cluster" in node.log_text()


def come_and_go(kills, seed):
    with Cluster(3) as cluster, Load(cluster, seed=seed) as load:
        with Killer(cluster, seed) if kills else Nobody() as killer:
            started = time.monotonic()
            for _ in range(2):
                with killer.lock:
                    node = cluster.add(join=random.choice(cluster.nodes)).start()
                cluster.wait_members(cluster.nodes)
            grown = time.monotonic()
            leader = None
            while leader is None:
                try:
                    leader = cluster.leader()
                except AssertionError:
                    pass                  # kills: nobody led just then
            remove(cluster, leader, killer)
            remove(cluster, next(n for n in cluster.nodes if n is not node), killer)
            ended = time.monotonic()
        cluster.wait_ready()
        load.stop()
        load.check()
        index = cluster.wait_equal()
        operations = sum(c.operations for c in load.clients)
        print(f"members: 3 -> 5 in {grown - started:.1f} s, -> 3 in {ended - grown:.1f} s, "
              f"{killer.kills} kills, {operations} operations, {load.acked} writes acknowledged, none "
              f"lost; equal digests at index {index[0]}")


def emptied(seed):
    """rm -rf of a node's directory under load: it takes its seat again, leader or not."""
    with Cluster(3) as cluster, Load(cluster, seed=seed) as load:
        for number in range(2):
            wait_for(lambda: load.acked > 50 * (number + 1), 20, "writes")
            leader = cluster.leader()
            node = leader if number == 0 else cluster.followers()[0]
            before = node.request("GET", "/v1/status").json()["store_id"]
            node.kill()
            node.empty()
            started = time.monotonic()
            node.start()
            cluster.wait_members(cluster.nodes)
            seated = time.monotonic() - started
            assert node.request("GET", "/v1/status").json()["store_id"] != before
            assert seated > 8, "the old store may come back for ten seconds"
            print(f"members: emptied {'leader' if node is leader else 'follower'} has its seat again "
                  f"after {seated:.1f} s")
        load.stop()
        load.check()
        cluster.wait_equal()


def refused():
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        code, out, _ = trilith(cluster, "-o", "table", "members", "list")
        assert code == 0 and out.count("voter") == 3, out
        r = change(cluster, "POST", "", json.dumps({"address": "127.0.0.1:9"}))
        assert r.status == 409 and r.json()["error"]["code"] == "no_answer", r
        r = change(cluster, "POST", "", json.dumps({"address": a.address}))
        assert r.status == 200 and r.json()["changed"] is False, r
        for path, body in (("", "{}"), ("", '{"address": "x"}'), ("?dry_run=x", "{}")):
            assert change(cluster, "POST", path, body).status == 400
        code, out, _ = trilith(cluster, "--dry-run", "-o", "table", "members", "remove", c.address)
        assert code == 0 and "Can lose 1 now, 0 afterwards" in out, out
        c.kill()
        cluster.leader()
        r = change(cluster, "DELETE", f"/{b.address}")
        assert r.status == 409 and r.json()["error"]["code"] == "would_lose_quorum", r
        code, _, err = trilith(cluster, "members", "remove", b.address)
        assert code == 1 and "would_lose_quorum" in err, err
        r = change(cluster, "DELETE", f"/{b.address}?dry_run=1")
        assert r.status == 200 and r.json()["refused"] == "would_lose_quorum", r
        assert r.json()["can_lose_after"] == -1, r
        code, out, _ = trilith(cluster, "-o", "table", "members", "remove", c.address)
        assert code == 0 and "is being removed" in out, out
        cluster.wait_members([a, b])
        r = change(cluster, "DELETE", f"/{c.address}")
        assert r.status == 200 and r.json()["changed"] is False, r
        c.start()
        assert c.wait(30) == 3, c.process.returncode
        # Of two voters one cannot be replaced; it is told so, and nothing is formed without it.
        b.kill()
        b.empty()
        b.start()
        wait_for(lambda: "two voters" in waits_for(b), 20, "the emptied one of two to be told")
        print("members: what is refused is refused with a reason")


def old_copy():
    """A directory restored from an old copy: refused, and taken as a new member once it is emptied."""
    with Cluster(3) as cluster:
        node = cluster.followers()[0]
        rest = [n for n in cluster.nodes if n is not node]
        node.kill()
        shutil.copytree(node.dir, node.dir + ".copy")
        node.start()
        cluster.wait_ready()
        for number in range(50):
            assert rest[0].put(f"new/{number}", "1").status == 201
        cluster.wait_equal()
        node.kill()
        node.empty()
        os.rename(node.dir + ".copy", node.dir)
        node.start()
        assert node.wait(30) == 3, node.process.returncode
        assert "an old copy" in node.log_text()
        node.empty()
        node.start()
        cluster.wait_members(cluster.nodes)
        cluster.wait_equal()
        print("members: an old copy of a directory is refused")


def two_emptied():
    """Two emptied while the third is down: they wait and form nothing."""
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        assert a.put("kept", "here").status == 201
        wait_for(lambda: all(cluster.data_group(n)["flushed"] > 1 for n in cluster.nodes), 30, "a flush")
        for node in (a, b, c):
            node.kill()
        for node in (b, c):
            node.empty()
            node.start()
        for node in (b, c):
            wait_for(lambda: a.address in waits_for(node), 20, "the emptied to wait", node)
        time.sleep(2)
        for node in (b, c):
            assert a.address in waits_for(node), waits_for(node)
        a.start()
        wait_for(lambda: "no leader" in waits_for(b), 20, "a to answer")
        assert a.get("kept", headers={"Trilith-Consistency": "local"}).body == b"here"
        print("members: two emptied disks formed nothing, and the third has its data")


def inspected():
    """A stopped node's directory says which cluster it is of, the log's beginning gone or not."""
    with Cluster(3, options=["--log-retain", "0"]) as cluster:
        a = cluster.nodes[0]
        identity = a.request("GET", "/v1/cluster").json()["cluster_id"]
        node = cluster.add(join=a).start()
        cluster.wait_members(cluster.nodes)
        fill = [program("trilith-bench"), "--targets", a.address, "--fill", "--keys", "5000"]
        subprocess.check_output(fill)     # a log of a few pages is not shortened
        wait_for(lambda: a.request("GET", "/v1/status").json()["groups"][0]["flushed"] > 2, 30, "a flush")
        remove(cluster, node, Nobody())   # what is appended lets what is flushed go
        wait_for(lambda: a.request("GET", "/v1/log?group=0").json()["first"] > 2, 30,
                 "the genesis to be deleted from the log")
        a.kill()
        code, out, err = trilith(cluster, "-o", "json", "inspect", a.dir)
        report = json.loads(out)
        assert code == 0 and report["ok"] and report["groups"][0]["first"] > 2, (out, err)
        assert report["cluster_id"] == identity, report["cluster_id"]
        print("members: inspect finds the cluster in the placement")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("parts", nargs="*")
    args = parser.parse_args()
    print(f"members: seed {args.seed}", flush=True)
    random.seed(args.seed)
    parts = {"refused": refused, "old_copy": old_copy, "two_emptied": two_emptied,
             "inspected": inspected,
             "emptied": lambda: emptied(args.seed),
             "come_and_go": lambda: come_and_go(args.kills, args.seed)}
    for part in args.parts or parts:
        parts[part]()


if __name__ == "__main__":
    main()
