#!/usr/bin/env python3
"""Nodes come and go on real processes: 3 -> 5 -> 3 under load, emptied disks, what is refused.

members.py [--kills] [--rounds N] [--seed S] [PART...]

  --kills   kill -9 of somebody every two seconds while nodes come and go
  --rounds  how often they do
  PART      refused, old_copy, inspected, two_emptied, orders, emptied, come_and_go: all by default
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


def store_of(node):
    return node.request("GET", "/v1/status").json()["store_id"]


def more_writes(load, count=50):
    before = load.acked
    wait_for(lambda: load.acked > before + count, 20, "writes")


def assert_waits(cluster, emptied):
    """The emptied nodes say whom they wait for, have formed nothing, and take nothing."""
    told = ", ".join(f"{n.address} (its cluster has no leader that could add this store)" if n.running
                     else f"{n.address} (no answer)" for n in cluster.nodes if n not in emptied)
    for node in (n for n in emptied if n.running):
        wait_for(lambda: waits_for(node) == f"waiting for {told}", 20, f"{told} to be waited for", node)
        r = node.request("GET", "/readyz")
        assert (r.status, r.body.decode()) == (503, f"not ready: waiting for {told}\n"), r
        seen = node.request("GET", "/v1/cluster").json()
        assert (seen["cluster_id"], seen["members"], seen["groups"]) == ("0" * 32, [], []), seen
        for r in (node.put("key", "1"), node.get("key"), node.get("key?consistency=local")):
            error = r.json()["error"]
            assert (r.status, error["code"], error["outcome"]) == (503, "starting", "not_executed"), r
            assert int(r.headers["Retry-After"]) >= 1, r.headers


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


def grow_and_shrink(cluster, killer):
    """3 -> 5 -> 3: a new node comes, and one that was removed before, if there is one; the leader leaves,
    and one of the others."""
    for number in range(2):
        with killer.lock:
            join = random.choice(cluster.nodes)
            if number == 0 and cluster.removed:
                cluster.add_again(random.choice(cluster.removed), join).start()
            else:
                cluster.add(join).start()
        cluster.wait_members(cluster.nodes)
    leader = None
    while leader is None:
        try:
            leader = cluster.leader()
        except AssertionError:
            pass                          # kills: nobody led just then
    remove(cluster, leader, killer)
    remove(cluster, random.choice(cluster.nodes), killer)


def come_and_go(kills, rounds, seed):
    with Cluster(3) as cluster, Load(cluster, seed=seed) as load:
        founders, started = list(cluster.nodes), time.monotonic()
        with Killer(cluster, seed) if kills else Nobody() as killer:
            for number in range(rounds):
                more_writes(load)
                grow_and_shrink(cluster, killer)
                wrong = [w for c in load.clients for w in c.wrong]
                assert not wrong, f"round {number}:\n" + "\n".join(wrong[:20])
        seconds = time.monotonic() - started
        cluster.wait_ready()
        cluster.wait_members(cluster.nodes)
        load.stop()
        load.check()
        index = cluster.wait_equal()
        operations = sum(c.operations for c in load.clients)
        print(f"members: 3 -> 5 -> 3 {rounds} times in {seconds:.1f} s, {killer.kills} kills, "
              f"{sum(n in cluster.nodes for n in founders)} founders left, no change under way; "
              f"{operations} operations, {load.acked} writes acknowledged, none lost; equal digests at "
              f"index {index[0]}; {load.judged()}", flush=True)


def emptied(seed):
    """rm -rf of a node's directory under load, leader or not, stopped or running: it takes its seat
    again. One that runs ends with its next commit; somebody starts it again, as a supervisor does."""
    with Cluster(3) as cluster, Load(cluster, seed=seed) as load:
        for runs in (False, True):
            for leads in (True, False):
                more_writes(load)
                leader = cluster.leader()
                node = leader if leads else cluster.followers()[0]
                before = store_of(node)
                if runs:
                    node.empty()
                    assert node.wait(30) == 4, node.process.returncode
                    assert "was deleted while it was in use" in node.log_text()
                else:
                    node.kill()
                    node.empty()
                started = time.monotonic()
                node.start()
                cluster.wait_members(cluster.nodes)
                seated = time.monotonic() - started
                assert store_of(node) != before
                assert seated > 8, "the old store may come back for ten seconds"
                cluster.wait_ready()
                print(f"members: {'running' if runs else 'stopped'} {'leader' if leads else 'follower'} "
                      f"emptied, has its seat again after {seated:.1f} s", flush=True)
        load.stop()
        load.check()
        cluster.wait_equal()
        print(f"members: {load.acked} writes acknowledged, none lost; {load.judged()}", flush=True)


def orders(seed):
    """All stopped, one emptied, and started before, between and behind the other two. The first time
    it is the one that would form a cluster of this view."""
    with Cluster(3) as cluster, Load(cluster, clients=4, seed=seed) as load:
        identity = cluster.nodes[0].request("GET", "/v1/cluster").json()["cluster_id"]
        for place in range(3):
            more_writes(load)
            node = random.choice(cluster.nodes) if place > 0 else cluster.nodes[0]
            for each in cluster.nodes:
                each.process.kill()
            for each in cluster.nodes:
                each.wait()
            node.empty()
            order = [n for n in cluster.nodes if n is not node]
            random.shuffle(order)
            order.insert(place, node)
            for each in order[:2]:
                each.start()
                assert_waits(cluster, [node])
            if place == 2:
                cluster.wait_ready(order[:2])
            order[2].start()
            started = time.monotonic()
            cluster.wait_members(cluster.nodes)
            cluster.wait_ready()
            for each in cluster.nodes:
                assert each.request("GET", "/v1/cluster").json()["cluster_id"] == identity
            print(f"members: emptied and started {('first', 'second', 'last')[place]} of three, has its "
                  f"seat again {time.monotonic() - started:.1f} s after the third started", flush=True)
        load.stop()
        load.check()
        cluster.wait_equal()
        print(f"members: {load.acked} writes acknowledged, none lost; {load.judged()}", flush=True)


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


def local_rows(cluster, node):
    code, out, err = trilith(cluster, "-e", node.address, "-o", "json", "--consistency", "local", "scan")
    assert code == 0, err
    return {row["key"]: row["value"] for row in map(json.loads, out.splitlines())}


def tentative_rows(node):
    """The puts that stand in the node's log and that it does not know to be committed."""
    blocks = node.request("GET", "/v1/log?group=1").json()["blocks"]
    return {b["operation"]["key"]: b["operation"]["value"] for b in blocks
            if b["status"] == "tentative" and b["type"] == "command"}


def two_emptied(which):
    """Two emptied while the third is down: they wait and form nothing, also when it is back. Its data
    can be read, and taken into a new cluster."""
    rows = {f"kept/{number:03}": str(number) for number in range(150)}
    with Cluster(3) as cluster:
        for key, value in rows.items():
            assert cluster.nodes[0].put(key, value).status == 201
        cluster.wait_equal()
        wait_for(lambda: all(g["flushed"] == g["applied"] for g in map(cluster.data_group, cluster.nodes)),
                 30, "a flush")
        late = {"kept/late": "not flushed"}
        assert cluster.nodes[0].put("kept/late", late["kept/late"]).status == 201
        cluster.wait_equal()
        identity = cluster.nodes[0].request("GET", "/v1/cluster").json()["cluster_id"]
        third = cluster.nodes[which]
        two = [n for n in cluster.nodes if n is not third]
        for node in cluster.nodes:
            node.kill()
        for node in two:
            node.empty()
            node.start()
        assert_waits(cluster, two)
        time.sleep(2)
        assert_waits(cluster, two)
        third.start()
        assert_waits(cluster, two)
        two[0].kill()
        two[0].start()
        time.sleep(2)
        assert_waits(cluster, two)
        r = third.request("GET", "/readyz")
        assert (r.status, r.body) == (503, b"not ready: group 0: no leader is known\n"), r
        for r in (third.put("kept/new", "1"), third.get("kept/000")):
            assert r.status == 503 and r.json()["error"]["outcome"] == "not_executed", r
        assert local_rows(cluster, third) == rows and tentative_rows(third) == late
        rows.update(late)

        for node in cluster.nodes:
            node.kill()
            os.rename(node.dir, node.dir + ".kept")
            node.start()
        cluster.wait_ready()
        assert cluster.nodes[0].request("GET", "/v1/cluster").json()["cluster_id"] != identity
        assert third.get("kept/000").status == 404
        for key, value in rows.items():
            assert trilith(cluster, "put", key, value)[0] == 0
        cluster.wait_equal()
        assert all(local_rows(cluster, n) == rows for n in cluster.nodes)
        print(f"members: two emptied disks formed nothing, the third ({('first', 'second', 'last')[which]} "
              f"of the view) had all {len(rows)} rows, and a new cluster took them", flush=True)


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
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("parts", nargs="*")
    args = parser.parse_args()
    print(f"members: seed {args.seed}", flush=True)
    random.seed(args.seed)
    parts = {"refused": refused, "old_copy": old_copy, "inspected": inspected,
             "two_emptied": lambda: (two_emptied(0), two_emptied(2)),
             "orders": lambda: orders(args.seed), "emptied": lambda: emptied(args.seed),
             "come_and_go": lambda: come_and_go(args.kills, args.rounds, args.seed)}
    for part in args.parts or parts:
        parts[part]()


if __name__ == "__main__":
    main()
