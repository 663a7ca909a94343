#!/usr/bin/env python3
"""Exactly once, and an end to every 429, under clocks that are hours and days off (clock_shim.so).

Each seed is a cluster of its own: clocks are off by up to an hour or a day, are set back and forth and
stopped, while leadership moves and nodes are killed; time passes ten times as fast. Clients append keyed
tokens and repeat earlier requests at other nodes, all within the 150 s for which outcomes are kept. Every
answer to a repeat is the first one's, every token is there once, and no token of an answer is refused.
"""

import argparse
import http.client
import json
import mmap
import os
import random
import struct
import threading
import time

import cluster as cluster_module
from cluster import Cluster, program, wait_for

FACTOR = 10
WINDOW = 60                 # seconds of the nodes' time
HOUR, DAY = 3600, 86400
KEYS = 40                   # lists, so that none grows large


class Clock:
    """The clocks of one node's process."""

    def __init__(self, path, base, shim):
        self.path = path
        with open(path, "wb") as f:
            f.write(struct.pack("=QQQqQ", FACTOR, *base, 0, 0))
        fd = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(fd, 40)
        os.close(fd)
        self.base = base
        self.env = {"LD_PRELOAD": os.path.abspath(shim), "TL_CLOCK": path}

    def set(self, offset):
        """So many seconds off, and going."""
        struct.pack_into("=q", self.map, 24, int(offset * 1e6))
        struct.pack_into("=Q", self.map, 32, 0)

    def stop(self):
        real_us, boot_ns = self.base
        passed_us = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - boot_ns) * FACTOR // 1000
        offset_us = struct.unpack_from("=q", self.map, 24)[0]
        struct.pack_into("=Q", self.map, 32, real_us + passed_us + offset_us)


def now():
    """Seconds of the nodes' monotonic clocks."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * FACTOR / 1e9


def nap(seconds):
    time.sleep(seconds / FACTOR)


def set_up(cluster, shim):
    base = int(time.time() * 1e6), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    clocks = [Clock(os.path.join(cluster.dir, f"clock{i}"), base, shim)
              for i in range(len(cluster.nodes))]
    for node, clock in zip(cluster.nodes, clocks):
        node.env = clock.env
    return clocks


class Client(threading.Thread):
    def __init__(self, cluster, number, seed, end):
        super().__init__(daemon=True)
        self.cluster, self.number, self.end = cluster, number, end
        self.random = random.Random(seed * 100 + number)
        self.done = []             # (key, token, headers, answer of the first that had one or None)
        self.token = 0             # the largest that an answer brought
        self.replayed = self.executed = self.reads = 0
        self.wrong = []

    def ask(self, method, path, body=None, headers=()):
        node = self.random.choice(self.cluster.nodes)
        if self.random.random() < 0.7 and self.token:
            headers = {**dict(headers), "Trilith-Token": str(self.token)}
        try:
            answer = node.request(method, path, body=body, headers=dict(headers), timeout=5)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status == 400:
            self.wrong.append(f"{method} {path} with token {self.token}: {answer}")
        self.token = max(self.token, int(answer.headers.get("Trilith-Token", 0)))
        return answer

    def write(self, index):
        key, token, name, first = self.done[index]
        answer = self.ask("POST", f"/v1/kv/list/{key}?op=append", token, {"Idempotency-Key": name})
        if answer is None or answer.status in (429, 503, 504):
            return
        if answer.status not in (200, 201):
            self.wrong.append(f"{name}: {answer}")
            return
        is_replayed = answer.headers.get("Trilith-Replayed") == "true"
        said = answer.status, answer.headers["ETag"], answer.body
        if first is None:
            self.done[index] = key, token, name, said
        elif said != first or not is_replayed:
            self.wrong.append(f"{name}: first {first}, then {said}, replayed {is_replayed}")
        self.replayed += is_replayed
        self.executed += not is_replayed

    def run(self):
        while now() < self.end:
            dice = self.random.random()
            if dice < 0.2:
                answer = self.ask("GET", f"/v1/kv/list/{self.random.randrange(KEYS)}?consistency=causal")
                self.reads += answer is not None and answer.status in (200, 404)
            elif dice < 0.6 and self.done:
                self.write(self.random.randrange(len(self.done)))
            else:
                count = len(self.done)
                self.done.append((self.random.randrange(KEYS), f"<{self.number}.{count}>",
                                  f"{self.number}-{count}", None))
                self.write(count)

    def check(self, texts):
        for key, token, name, first in self.done:
            count = texts[key].count(token)
            if count > 1 or (first is not None and count != 1):
                self.wrong.append(f"{name}: its token is there {count} times")


def shake(dice, cluster, clocks, size):
    """One fault: mostly of a clock, else the leadership moves or a node dies."""
    kind = dice.random()
    if kind < 0.65:
        for clock in clocks if dice.random() < 0.3 else [dice.choice(clocks)]:
            offset = dice.choice((0, 0, size, -size, dice.uniform(-size, size)))
            clock.set(offset)
            if dice.random() < 0.2:
                clock.stop()
    elif kind < 0.9:
        body = json.dumps({"address": dice.choice(cluster.nodes).address, "group": 1})
        try:
            dice.choice(cluster.nodes).request("POST", "/v1/cluster/leader", body=body, timeout=2,
                                               headers={"Content-Type": "application/json"})
        except (OSError, http.client.HTTPException):
            pass
    else:
        node = dice.choice(cluster.nodes)
        node.kill()
        node.start()


def fresh_write(node, name):
    try:
        return node.put("probe", "x", headers={"Idempotency-Key": name}, timeout=5).status in (200, 201)
    except (OSError, http.client.HTTPException):
        return False


def write_until_done(node, key, value):
    answers = []
    wait_for(lambda: answers.append(node.put(key, value)) or answers[-1].status in (200, 201), 10, "a write")
    return answers[-1]


def append_once(node, n):
    """The same request each time, until it has an answer."""
    answers = []
    wait_for(lambda: answers.append(node.request("POST", f"/v1/kv/once{n}?op=append", body="x",
                                                 headers={"Idempotency-Key": f"once-{n}"}))
             or answers[-1].status in (200, 201), 10, "a write")
    return answers[-1]


def run_seed(seed, shim):
    dice = random.Random(seed)
    size = DAY if seed % 2 == 0 else HOUR
    with Cluster(3, options=["--request-timeout", "20s"], start=False) as cluster:
        clocks = set_up(cluster, shim)
        for clock in clocks:               # the genesis' time is a wrong one too
            clock.set(dice.choice((0, size, -size, dice.uniform(-size, size))))
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        clients = [Client(cluster, i, seed, now() + WINDOW) for i in range(3)]
        for client in clients:
            client.start()
        faults = 0
        while now() < clients[0].end:
            nap(dice.uniform(1, 6))
            shake(dice, cluster, clocks, size)
            faults += 1
        for client in clients:
            client.join(30)
        for clock in clocks:
            clock.set(0)
        cluster.wait_ready()
        wait_for(lambda: fresh_write(cluster.nodes[seed % 3], f"probe-{seed}"), 30, "a keyed write")
        texts = {}
        for key in range(KEYS):
            wait_for(lambda: (answer := cluster.nodes[0].get(f"list/{key}")).status in (200, 404)
                     and texts.__setitem__(key, answer.body.decode() if answer.status == 200 else "")
                     is None, 30, "a read")
        for client in clients:
            client.check(texts)
        cluster.wait_equal()
        wrong = [w for c in clients for w in c.wrong]
        assert not wrong, f"{len(wrong)} answers are wrong:\n" + "\n".join(wrong[:10])
        executed, replayed, reads = (sum(getattr(c, name) for c in clients)
                                     for name in ("executed", "replayed", "reads"))
        term = cluster.data_group(cluster.leader())["term"]
        assert executed > 20 and replayed > 5, (executed, replayed)
        print(f"clocks: seed {seed}: {faults} faults, term {term}: {executed} executed, {replayed} "
              f"replayed, {reads} reads", flush=True)


def slow_leader(shim):
    """No other fault than one clock: that of the node which formed the cluster, and leads, is an hour slow."""
    with Cluster(3, start=False) as cluster:
        clocks = set_up(cluster, shim)
        clocks[0].set(-HOUR)
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        leader = cluster.nodes[0]

        def leads():
            leader.request("POST", "/v1/cluster/leader", body=json.dumps({"address": leader.address}),
                           headers={"Content-Type": "application/json"})
            return cluster.leader() is leader

        wait_for(leads, 20, "the slow node to lead")
        for n in range(10):
            assert append_once(leader, n).status in (200, 201)
        clocks[0].set(0)
        for n in range(10):   # others need room, so that what may go does
            leader.put("other", "y", headers={"Idempotency-Key": f"other-{n}"})
        for n in range(10):
            again = append_once(leader, n)
            assert again.headers.get("Trilith-Replayed") == "true", again
            assert leader.get(f"once{n}").body == b"x"
    print("clocks: a leader that was an hour slow and is set right: repeats are answered, not executed")


def full_table(shim):
    """Eight hours ahead at birth, then right: 429 says for how long, and that is true."""
    with Cluster(3, options=["--idempotency-records", "20"], start=False) as cluster:
        clocks = set_up(cluster, shim)
        for clock in clocks:
            clock.set(8 * HOUR)
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        for clock in clocks:
            clock.set(0)
        refused = []

        def fill(n=iter(range(10 ** 6))):
            answer = cluster.nodes[0].put("k", "v", headers={"Idempotency-Key": f"fill-{next(n)}"})
            if answer.status == 429:
                refused.append(answer)
            return bool(refused)

        wait_for(fill, 30, "a full table")
        assert refused[0].json()["error"]["code"] == "no_room", refused[0]
        seconds = int(refused[0].headers["Retry-After"])
        assert 1 <= seconds <= 70, seconds
        nap(seconds + 1)          # an election may have taken the rest
        wait_for(lambda: fresh_write(cluster.nodes[0], "late"), 2, "a keyed write after Retry-After")
    print(f"clocks: a full table under clocks that were set back: Retry-After {seconds} s, and then there was room")


def slow_node(shim):
    """A node that is a minute slow takes every token of the cluster, and refuses those of nobody."""
    with Cluster(3, start=False) as cluster:
        clocks = set_up(cluster, shim)
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        slow = cluster.followers()[0]
        clocks[cluster.nodes.index(slow)].set(-60)
        nap(2)
        leader = cluster.leader()
        for n in range(100):
            token = write_until_done(leader, "a", str(n)).headers["Trilith-Token"]
            answer = slow.request("GET", "/v1/kv/a?consistency=causal", headers={"Trilith-Token": token})
            assert answer.status in (200, 503), answer
        ahead = str(int(token) + 10 ** 9)
        for node in cluster.nodes:
            for method, body in (("GET", None), ("PUT", "v")):
                got = []
                wait_for(lambda: got.append(node.request(
                    method, "/v1/kv/a?consistency=causal" if method == "GET" else "/v1/kv/a", body=body,
                    headers={"Trilith-Token": ahead})) or got[-1].status != 503, 10, "an answer")
                assert got[-1].status == 400 and got[-1].json()["error"]["code"] == "token_ahead", got[-1]
    print("clocks: a node that is 60 s slow takes all tokens of the cluster, and no node one that is 1,000 s ahead")


def old_data(shim, old):
    """Data of another version of the program, whose last entry is a day ahead; then nodes are replaced one by one."""
    with Cluster(3, start=False) as cluster:
        clocks = set_up(cluster, shim)
        for clock in clocks:
            clock.set(DAY)
        new = cluster_module.BUILD
        cluster_module.BUILD = old
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        wait_for(lambda: fresh_write(cluster.nodes[0], "old"), 10, "a write")
        for clock in clocks:
            clock.set(0)
        cluster_module.BUILD = new
        for node in cluster.nodes:
            node.kill(15)
            node.start()
            cluster.wait_ready()
            wait_for(lambda: fresh_write(cluster.nodes[0], f"new-{node.port}"), 10, "a write")
        before = int(cluster.nodes[0].put("t", "1").headers["Trilith-Token"])
        began = now()
        nap(20)
        risen = int(cluster.nodes[0].put("t", "2").headers["Trilith-Token"]) - before
        assert 0.7 * (now() - began) < risen / 1e6 < 2 * (now() - began) + 1, risen
        cluster.wait_equal()
    print("clocks: data of another version, a day ahead: log time goes on from it")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shim", help="clock_shim.so of another build")
    parser.add_argument("--old", help="build directory of another version, for its data")
    parser.add_argument("--only", help="one of slow_leader, full_table, slow_node, seeds")
    options = parser.parse_args()
    shim = options.shim or program("tests/system/clock_shim.so")
    for scenario in (slow_leader, full_table, slow_node):
        if options.only in (None, scenario.__name__):
            scenario(shim)
    if options.old:
        old_data(shim, options.old)
    if options.only not in (None, "seeds"):
        return
    for seed in range(options.seed, options.seed + options.seeds):
        try:
            run_seed(seed, shim)
        except BaseException:
            print(f"clocks: seed {seed} failed; again: clocks.py --only seeds --seed {seed} --seeds 1", flush=True)
            raise


if __name__ == "__main__":
    main()
