#!/usr/bin/env python3
"""Leadership moves: by request, by SIGTERM, and away from a disk that hangs.

handover.py [--tries N] [--rounds N] [--long] [PART...]
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import threading
import time

from cluster import Cluster, program, wait_for
from shim import Shim

INTERVAL = 0.005      # of the open-loop writer
WORKERS = 24


class OpenLoop:
    """Writes at fixed times, whatever became of those before; what was certainly not executed is
    written again. Latencies count from the time a write was due."""

    def __init__(self, cluster, nodes=None):
        self.nodes = nodes or list(cluster.nodes)
        self.lock = threading.Lock()
        self.number = 0
        self.begin = time.monotonic() + 0.05
        self.stop_now = threading.Event()
        self.writes = []              # (when it was due, seconds to its answer)
        self.errors = []
        self.refusals = 0
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True)
                        for i in range(WORKERS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop_now.set()
        for thread in self.threads:
            thread.join(20)

    def work(self, worker):
        connections = {}
        while not self.stop_now.is_set():
            with self.lock:
                number = self.number
                self.number += 1
            due = self.begin + number * INTERVAL
            time.sleep(max(0.0, due - time.monotonic()))
            error = self.write(connections, number)
            now = time.monotonic()
            with self.lock:
                self.writes.append((due, now - due))
                if error:
                    self.errors.append(f"write {number}: {error}")

    def write(self, connections, number):
        """None, or what a client may not see. Nothing but a definite refusal is repeated."""
        deadline = time.monotonic() + 8
        at = number
        while time.monotonic() < deadline:
            node = self.nodes[at % len(self.nodes)]
            connection = connections.get(node.port)
            if connection is None:
                connection = connections[node.port] = http.client.HTTPConnection(
                    "127.0.0.1", node.port, timeout=8)
            try:
                connection.request("PUT", f"/v1/kv/open/{number % 100}", body=str(number))
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as problem:
                connections.pop(node.port).close()
                return repr(problem)
            if answer.status in (200, 201):
                return None
            if answer.status not in (429, 503):
                return f"{answer.status} {body!r}"
            if json.loads(body)["error"]["outcome"] != "not_executed":
                return f"{answer.status} {body!r}"
            self.refusals += 1
            at += 1
            time.sleep(0.01)
        return "refused for 8 s"

    def slowest(self, since, until):
        """Seconds of the slowest write that was due in this span."""
        with self.lock:
            return max((took for due, took in self.writes if since <= due <= until), default=0)


def ms(seconds):
    return f"{seconds * 1000:.0f} ms"


def transfer(node, group=1, address=None, dry_run=False):
    body = {"group": group}
    if address:
        body["address"] = address
    return node.request("POST", "/v1/cluster/leader" + ("?dry_run=1" if dry_run else ""),
                        body=json.dumps(body), headers={"Content-Type": "application/json"})


def requests(cluster, _):
    """What the API and the command line say."""
    leader = cluster.leader()
    one, other = cluster.followers()
    r = transfer(one, address=other.address, dry_run=True)
    assert r.status == 200 and r.json()["changed"] and r.json()["leader"] == other.address, r
    assert cluster.leader() is leader
    r = transfer(one, address=other.address)
    assert r.status == 200 and r.json()["changed"], r
    assert (r.json()["from"], r.json()["leader"]) == (leader.address, other.address), r.body
    assert cluster.leader() is other
    r = transfer(one, address=other.address)
    assert r.status == 200 and not r.json()["changed"] and r.json()["leader"] == other.address, r
    assert transfer(one, group=9).status == 404
    assert transfer(one, address="127.0.0.1:1").status == 409
    assert one.request("GET", "/v1/cluster/leader").status == 405
    leader.pause()
    time.sleep(1)
    r = transfer(one, address=leader.address)
    assert r.status == 409 and r.json()["error"]["code"] == "not_heard", r
    leader.resume()
    cluster.wait_ready()

    def cli(*words):
        return subprocess.run([program("trilith"), "-e", cluster.view, "-o", "table", "leader",
                               *words], capture_output=True, text=True, timeout=30)

    for group in (0, 1):
        assert transfer(one, group=group, address=leader.address).status == 200
    r = cli("transfer", other.address, "--dry-run")
    assert r.returncode == 0 and r.stdout.count(f"{other.address} would lead") == 2, r
    r = cli("transfer", other.address)
    assert r.returncode == 0 and r.stdout.count(f"{other.address} leads, before it "
                                                f"{leader.address}.") == 2, r
    r = cli("transfer", "--group", "1", other.address)
    assert r.returncode == 0 and r.stdout == f"Group 1: {other.address} leads already.\n", r
    assert cli("transfer", "127.0.0.1:1").returncode == 1
    assert cli("move").returncode == 2
    r = cli("transfer")
    assert r.returncode == 0 and r.stdout.count("before it " + other.address) == 2, r
    print("handover: API and command line: done, refused, asked only")


def planned(cluster, args):
    """Transfers of the data group under an open-loop load."""
    gaps = []
    with OpenLoop(cluster) as load:
        time.sleep(1)
        for _ in range(args.tries):
            asked = cluster.nodes[len(gaps) % 3]
            since = time.monotonic()
            r = transfer(asked)
            assert r.status == 200 and r.json()["changed"], r
            time.sleep(0.5)
            gaps.append(load.slowest(since - 0.1, since + 0.4))
        quiet = load.slowest(load.begin + 0.5, load.begin + 0.9)
    assert not load.errors, "\n".join(load.errors[:10])
    gaps.sort()
    print(f"handover: {args.tries} planned transfers under {1 / INTERVAL:.0f} writes/s: slowest write "
          f"around each: median {ms(gaps[len(gaps) // 2])}, worst {ms(gaps[-1])} (before any: "
          f"{ms(quiet)}); {len(load.writes)} writes, {load.refusals} refused and repeated, no error")
    assert gaps[len(gaps) // 2] <= 0.1 and gaps[-1] <= 0.5, gaps


class Clients:
    """Processes over libtrilith, and the command line again and again; none may fail."""

    def __init__(self, cluster, count=4):
        self.cluster = cluster
        self.clients = [subprocess.Popen([program("tests/system/client_load"), cluster.view,
                                          f"counter/{os.getpid()}/{time.monotonic_ns()}/{i}"],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True) for i in range(count)]
        self.stop_now = threading.Event()
        self.commands, self.slowest, self.failures = 0, 0.0, []
        self.thread = threading.Thread(target=self.command_line, daemon=True)
        self.thread.start()

    def command_line(self):
        while not self.stop_now.is_set():
            value = f"{self.commands}"
            start = time.monotonic()
            for words in (("put", "cli", value), ("get", "cli")):
                r = subprocess.run([program("trilith"), "-e", self.cluster.view, *words],
                                   capture_output=True, text=True, timeout=30)
                if r.returncode != 0 or (words[0] == "get" and r.stdout != value):
                    self.failures.append(f"{words}: {r}")
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.commands += 2

    def stop(self):
        self.stop_now.set()
        self.thread.join(30)
        rounds = 0
        for client in self.clients:
            out, err = client.communicate("x", timeout=30)
            if client.returncode != 0:
                self.failures.append(err)
            done, slowest = out.split()
            rounds += int(done)
            self.slowest = max(self.slowest, int(slowest) / 1000)
        return rounds


def rolling(cluster, args):
    """Every node is stopped by SIGTERM and started again, while clients of libtrilith and the
    command line work."""
    clients = Clients(cluster)
    stops, terms = [], []
    for _ in range(args.rounds):
        for node in cluster.nodes:
            time.sleep(0.5)
            led = node.status()["state"] == 2
            start = time.monotonic()
            assert node.kill(signal.SIGTERM) == 0, node.process.returncode
            stops.append(time.monotonic() - start)
            if led:
                assert "event=hand_over " in node.log_text()
                rest = [n for n in cluster.nodes if n is not node]
                terms.append(rest[0].status()["leader"])
            node.start()
            cluster.wait_ready()
    rounds = clients.stop()
    assert not clients.failures, "\n".join(clients.failures[:10])
    assert terms, "no leader was among them"
    cluster.wait_equal()
    print(f"handover: rolling restart, {len(stops)} nodes stopped by SIGTERM ({len(terms)} of them "
          f"led; slowest stop {ms(max(stops))}): {rounds} rounds of libtrilith, {clients.commands} "
          f"commands, none failed, none lost; slowest {ms(clients.slowest)}")


def drained(cluster, _):
    """On a connection that stays open: a node that stops tells its client to go. The last request is done, where it
    began before the stop, or refused as not executed."""
    node = cluster.leader()
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)

    def put(i):
        connection.request("PUT", "/v1/kv/drained", body=str(i))
        answer = connection.getresponse()
        return answer, answer.read()

    assert put(0)[0].status in (200, 201)
    node.process.send_signal(signal.SIGTERM)
    for i in range(1, 10000):
        answer, body = put(i)
        is_done = answer.status in (200, 201)
        if not is_done or answer.headers["Connection"] == "close":
            break
    assert answer.headers["Connection"] == "close", (answer.status, body)
    if not is_done:
        assert answer.status == 503 and answer.headers["Retry-After"], (answer.status, body)
        assert json.loads(body)["error"] == {"code": "stopping", "message": "this node is stopping",
                                             "outcome": "not_executed"}, body
    connection.close()
    rest = next(n for n in cluster.nodes if n is not node)
    value = int(rest.get("drained").body)
    done = i if is_done else i - 1
    assert value == done, (value, i)
    assert node.wait() == 0
    node.start()
    cluster.wait_ready()
    last = "the last answer" if is_done else "503 not_executed for the next one"
    print(f"handover: SIGTERM on an open connection: {done} writes done, and {last} said to go")


def one_stalls(cluster, args):
    """The leader's flushes hang: another leads within 2 s, and health is reported."""
    leader = cluster.leader()
    rest = [n for n in cluster.nodes if n is not leader]
    term = cluster.data_group(leader)["term"]
    shim = args.shims[cluster.nodes.index(leader)]
    with OpenLoop(cluster, rest) as load:
        time.sleep(0.5)
        shim.set("hold", 1)
        start = time.monotonic()
        wait_for(lambda: rest[0].status()["leader"] in [n.address for n in rest], 10, "a new leader")
        moved = time.monotonic() - start
        time.sleep(1.5)
        disk = leader.request("GET", "/v1/status").json()["disk"]
        assert disk["log_commit_slow"] and disk["log_commit_age_ms"] > 500, disk
        told = {m["address"]: m["log_commit_age_ms"] for m in
                rest[0].request("GET", "/v1/status").json()["disk"]["members"]}
        metrics = leader.metrics()
        assert metrics["trilith_log_commit_slow"] == 1, metrics
        assert metrics['trilith_raft_disk_stalls_total{group="1"}'] >= 1
        shim.set("hold", 0)
        time.sleep(0.5)
    slowest = load.slowest(start - 0.2, start + 2)
    assert not load.errors, "\n".join(load.errors[:10])
    cluster.wait_ready()
    after = cluster.data_group(rest[0])["term"]
    assert not leader.request("GET", "/v1/status").json()["disk"]["log_commit_slow"]
    assert "event=disk_slow" in leader.log_text()
    cluster.wait_equal()
    print(f"handover: the leader's flushes hang: another leads after {ms(moved)}, slowest write "
          f"{ms(slowest)}, no error, terms {term} -> {after}; the stall was told by {len(told)} nodes")
    assert moved <= 2, moved


def all_stall(cluster, args):
    """All flushes hang for 700 ms: leadership stays."""
    cluster.wait_ready()
    leader = cluster.leader()
    terms = [g["term"] for g in leader.request("GET", "/v1/status").json()["groups"]]
    with OpenLoop(cluster) as load:
        time.sleep(0.5)
        start = time.monotonic()
        for shim in args.shims:
            shim.set("hold", 1)
        time.sleep(0.7)
        for shim in args.shims:
            shim.set("hold", 0)
        time.sleep(1.5)
    assert not load.errors, "\n".join(load.errors[:10])
    assert load.refusals == 0, load.refusals
    assert cluster.leader() is leader
    after = [g["term"] for g in leader.request("GET", "/v1/status").json()["groups"]]
    assert after == terms, (terms, after)
    print(f"handover: all flushes hang for 700 ms: leadership stays, {len(load.writes)} writes, no "
          f"error, none refused, slowest {ms(load.slowest(start - 0.2, start + 1))}")


def hangs_for_good(cluster, args):
    """A log commit that does not end ends the process, and nobody else notices."""
    node = cluster.followers()[0]
    shim = args.shims[cluster.nodes.index(node)]
    with OpenLoop(cluster, [n for n in cluster.nodes if n is not node]) as load:
        start = time.monotonic()
        shim.set("hold", 1)
        code = node.wait(30)
        elapsed = time.monotonic() - start
    shim.set("hold", 0)
    assert code == 4 and "has not ended for 20 s" in node.log_text(), code
    assert not load.errors, "\n".join(load.errors[:10])
    node.start()
    cluster.wait_ready()
    cluster.wait_equal()
    print(f"handover: a follower's flushes hang for good: exit 4 after {elapsed:.1f} s; {len(load.writes)} "
          f"writes at the others, no error, slowest {ms(load.slowest(start, start + 40))}")


PARTS = (requests, planned, drained, rolling, one_stalls, all_stall)
LONG_PARTS = (hangs_for_good,)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("parts", nargs="*", choices=[[], *[p.__name__ for p in PARTS + LONG_PARTS]])
    parser.add_argument("--long", action="store_true", help="all parts")
    args = parser.parse_args()
    with Cluster(3, start=False) as cluster:
        args.shims = [Shim(os.path.join(cluster.dir, f"shim{i}")) for i in range(3)]
        for node, shim in zip(cluster.nodes, args.shims):
            node.env = shim.env
            node.start()
        cluster.wait_ready()
        for part in PARTS + LONG_PARTS:
            if part.__name__ in args.parts or not args.parts and (args.long or part in PARTS):
                part(cluster, args)


if __name__ == "__main__":
    main()
