#!/usr/bin/env python3
"""Power cuts under load: the disks of one node, several or all lose what was not flushed. Nothing that
was acknowledged may be lost, and whatever a cut leaves, the next start goes on from.

Clusters live one after the other, several at a time: each is cut in its birth, then under load, with
followers brought back by snapshots and members coming and going meanwhile. Clients outside know what was
acknowledged (load.py, linear.py): puts, appends with Idempotency-Key, conditional puts, deletes, and
values of 1 MiB, which also make the tables be flushed and the log be deleted all the time.

A failure names its life, W.L: --seed S --life W.L has the same plan again.

power_cut.py [--cuts N] [--seed S] [--workers N] [--life W.L]
power_cut.py --expect-loss 40|41      planted: 40 the table's, 41 the log's flush is missing (sync_shim.c)
power_cut.py --cache                  a page in the cache alone is not taken for durable

Needs root and loop devices; says "skipped" without.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback

import disk
import linear
from cluster import BUILD, Cluster, program, wait_for
from load import Client, REGISTERS
from shim import Shim

LIFE_CUTS = 30                            # of one cluster, about
LARGE_KEYS = 16
LARGE_BYTES = 1 << 20
ROOM_BYTES = 6 << 30                      # that the images of all workers may take
# How often, and how many cuts one of it is.
KINDS = {"one": (10, 1), "all": (4, 1), "two": (2, 1), "snapshot": (3, 2), "member": (2, 2)}
OPTIONS = ("--log-retain", "4MiB")


class Loss(AssertionError):
    """What a power cut must never do."""


# ---- clients ----

def large_body(number):
    return (f"{number} " + f"{number % 97:02d}" * (LARGE_BYTES // 2))[:LARGE_BYTES]


class LargeClient(Client):
    """Puts large values of rising numbers into keys of its own, and deletes some."""

    def __init__(self, cluster, number, seed):
        super().__init__(cluster, number, seed)
        self.acked, self.tried = [0] * LARGE_KEYS, [0] * LARGE_KEYS
        self.deletes = [set() for _ in range(LARGE_KEYS)]   # the numbers that are deletions

    def key(self, i):
        return f"large/{self.number}/{i}"

    def change(self):
        i = self.random.randrange(LARGE_KEYS)
        number = self.tried[i] = self.tried[i] + 1
        is_delete = self.random.random() < 0.15
        if is_delete:
            self.deletes[i].add(number)
        answer = self.request("DELETE" if is_delete else "PUT", "/v1/kv/" + self.key(i),
                              None if is_delete else large_body(number), {})
        if answer.status in (200, 201) or (is_delete and answer.status == 404):
            self.acked[i] = number
            self.acked_at = time.monotonic()
        elif answer.status is not None and answer.status not in (429, 503, 504):
            self.wrong.append(f"{self.key(i)} number {number}: {answer}")

    def run(self):
        while not self.stop_now.is_set():
            if not self.may_go.is_set():
                self.idle.set()
                self.may_go.wait()
                continue
            self.operations += 1
            self.change()
            self.stop_now.wait(0.04)

    def check(self, node):
        for i in range(LARGE_KEYS):
            answer = node.get(self.key(i))
            if answer.status == 404:
                is_right = self.acked[i] == 0 or max(self.deletes[i], default=0) >= self.acked[i]
                found = "absent"
            else:
                text = answer.body.decode()
                found = text.split(" ", 1)[0]
                is_right = (self.acked[i] <= int(found) <= self.tried[i]
                            and int(found) not in self.deletes[i] and text == large_body(int(found)))
            if not is_right:
                self.wrong.append(f"{self.key(i)}: {found}, acked {self.acked[i]}, tried {self.tried[i]}, "
                                  f"deletes {sorted(self.deletes[i])[-5:]}")
        return self.wrong


class HeldSharer(linear.Sharer):
    """Can be told to begin nothing new."""

    def __init__(self, *args):
        super().__init__(*args)
        self.may_go, self.idle = threading.Event(), threading.Event()
        self.may_go.set()

    def do(self, *args, **more):
        if not self.may_go.is_set():
            self.idle.set()
            self.may_go.wait()
        return super().do(*args, **more)


class Load(linear.Load):
    def __init__(self, cluster, seed):
        super().__init__(cluster, clients=3, sharers=0, seed=seed)
        self.clients.append(LargeClient(cluster, len(self.clients), seed))
        self.sharers.append(HeldSharer(cluster, 0, seed, self.history))

    def hold(self):
        """No client begins anything new."""
        for client in self.clients + self.sharers:
            if client.may_go.is_set():
                client.idle.clear()
                client.may_go.clear()

    def resume(self):
        for client in self.clients + self.sharers:
            client.may_go.set()

    def stop(self):
        self.resume()
        super().stop()

    def wait_held(self):
        for client in self.clients + self.sharers:
            if not client.idle.wait(30):
                raise AssertionError(f"client {client.number} has had no answer for 30 s")

    def check_held(self):
        """When a quorum runs: what is there is what was acknowledged."""
        self.hold()
        self.wait_held()
        self.check_clients()
        self.resume()

    def check_clients(self):
        for client in self.clients:
            leader = self.cluster.leader(30)
            client.check(leader)
        self.raise_wrong()

    def raise_wrong(self):
        wrong = [w for c in self.clients for w in c.wrong]
        if wrong:
            raise Loss("\n".join(wrong[:20]))

    @property
    def acked_count(self):
        return sum(len(c.tokens_acked) for c in self.clients) + sum(
            sum(c.acked) for c in self.clients) + sum(
            o.outcome == "done" and o.kind != "get" for o in self.history.operations)


# ---- clusters on disks ----

class PowerCluster(Cluster):
    """Its nodes' directories are on disks of their own."""

    def __init__(self, count, directory, options=OPTIONS, env=None):
        os.environ["TRILITH_TEST_DIR"] = directory
        self.disks, self.cuts = {}, 0
        super().__init__(count, options, env, start=False)
        for node in self.nodes:
            self.give_disk(node)

    def give_disk(self, node):
        name = os.path.join(self.dir, f"{node.port}.disk")
        self.disks[node] = disk.Disk(name + ".img", name)
        node.dir = os.path.join(name, "data")
        node.wrapper = ["setpriv", "--pdeathsig", "KILL"]

    def add_on_disk(self, join):
        node = self.add(join)
        self.give_disk(node)
        return node

    def cut(self, nodes):
        """Cuts them all at once, as close as that can be had; they are down afterwards."""
        self.cuts += 1
        for node in nodes:
            self.disks[node].cut()
        for node in nodes:
            node.process.kill()
        for node in nodes:
            node.wait()
            self.disks[node].restore()

    def start_all(self, nodes):
        for node in nodes:
            node.start()

    def wait_started(self, timeout=60):
        """Ready, all of them: one that ends instead has not borne the cut."""
        deadline = time.monotonic() + timeout
        while True:
            for node in self.nodes:
                if not node.running and node.process is not None:
                    raise Loss(f"{node.address} ended with {node.process.returncode}: "
                               + node.log_text().splitlines()[-1])
            if all(node.ready() for node in self.nodes):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready within {timeout} s")
            time.sleep(0.02)

    def inspect(self):
        """Every directory as a whole, once the nodes are down."""
        for node in self.nodes:
            r = subprocess.run([program("trilith"), "inspect", node.dir], capture_output=True, text=True)
            if r.returncode != 0:
                raise Loss(f"{node.address}: {r.stdout}{r.stderr}")

    def __exit__(self, kind, value, trace):
        for node in self.nodes + self.removed:
            node.kill()
        for d in self.disks.values():
            if "TRILITH_KEEP" in os.environ:
                d.unmount()
            else:
                d.destroy()
        super().__exit__(kind, value, trace)


def transfer_under_way(node):
    """Whether it is getting a snapshot of the data group."""
    try:
        transfers = node.request("GET", "/v1/status", timeout=1).json()["transfers"]
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return any(t["group"] == 1 and t["stage"] == "receive" for t in transfers)


def range_of(node):
    groups = node.request("GET", "/v1/status").json()["groups"]
    return next((g["first"], g["last"]) for g in groups if g["group"] == 1)


# ---- a life ----

def plan_of(life, cuts):
    """Steps (kind, numbers in [0, 1) that choose): fixed by the life's name."""
    chooser = random.Random(life)

    def step(kind):
        return kind, [chooser.random() for _ in range(8)]

    steps = [step("birth") for _ in range(chooser.choice((1, 2, 2, 3)))]
    count = len(steps)
    while count < cuts:
        kind = chooser.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        steps.append(step(kind))
        count += KINDS[kind][1]
    return steps


class Life:
    def __init__(self, cluster, load):
        self.cluster, self.load = cluster, load
        self.counts = dict.fromkeys((*KINDS, "birth"), 0)
        self.transfers_cut = self.nodes_cut = self.last = 0
        self.is_last_acked = False

    def cut(self, kind, nodes):
        self.counts[kind] += 1
        self.nodes_cut += len(nodes)
        self.cluster.cut(nodes)

    def victims(self, kind, pick):
        """The leader as often as all followers together."""
        nodes = list(self.cluster.nodes)
        if kind == "all":
            return nodes
        leader = self.cluster.leader(30)
        rest = [n for n in nodes if n is not leader]
        follower = rest[int(pick * 2 * len(rest)) % len(rest)]
        if kind == "two":
            return [leader, follower] if pick < 0.5 else rest[:2]
        return [leader] if pick < 0.5 else [follower]

    def birth(self, at):
        """Any of them, at any moment of the first start."""
        nodes = self.cluster.nodes
        time.sleep(at[0] * 0.7)
        chosen = [n for n, a in zip(nodes, at[1:]) if a < 0.5] or nodes
        self.cut("birth", chosen)
        time.sleep(at[5] * 0.1)
        self.cluster.start_all(chosen)

    def settle(self, is_checked):
        self.cluster.wait_started()
        if is_checked:
            self.load.check_held()
        self.load.raise_wrong()

    def progress(self):
        before = self.load.acked_count
        wait_for(lambda: self.load.acked_count > before + 10, 60, "writes to be acknowledged")

    def plain(self, kind, at):
        time.sleep(at[0] * 0.5)
        is_quiet = kind == "all" and at[4] < 0.3
        if is_quiet:
            self.write_last()
        victims = self.victims(kind, at[1])
        is_checked = kind != "one" or at[2] < 0.3
        self.cut(kind, victims)
        if is_checked:
            self.load.hold()
        time.sleep(at[3] * 0.2)
        self.cluster.start_all(victims)
        self.settle(is_checked)
        if is_quiet:
            self.check_last()

    def write_last(self):
        """One write after which nothing is written: no later flush helps it."""
        leader = self.cluster.leader(30)
        self.load.hold()
        self.load.wait_held()
        self.last += 1
        answer = leader.put("last", str(self.last))
        self.is_last_acked = answer.status in (200, 201)

    def check_last(self):
        answer = self.cluster.leader(30).get("last")
        if self.is_last_acked and answer.body != str(self.last).encode():
            raise Loss(f"the last write before the cut, acknowledged: {self.last}, found {answer}")

    def snapshot(self, at):
        """A follower is away until the log is; then somebody is cut while it gets a snapshot."""
        away = self.cluster.followers()[int(at[0] * 2)]
        last = range_of(away)[1]
        self.cut("snapshot", [away])
        rest = [n for n in self.cluster.nodes if n is not away]
        for node in rest:                 # a stop flushes; the log goes with its flush only
            wait_for(lambda: range_of(node)[1] > last + 8, 60, "writes")
            node.kill(signal.SIGTERM)
            node.start()
            wait_for(node.ready, 60, f"{node.address} to be ready", node)
        wait_for(lambda: all(range_of(n)[0] > last + 1 for n in rest), 60, "the log to be deleted")
        away.start()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline and not transfer_under_way(away):
            time.sleep(0.002)
        time.sleep(at[1] * 0.15)
        self.transfers_cut += transfer_under_way(away)
        victims = {0: [away], 1: [away], 2: [self.cluster.leader(30)]}.get(int(at[2] * 4),
                                                                         self.cluster.nodes)
        self.cut("snapshot", victims)
        self.load.hold()
        time.sleep(at[3] * 0.2)
        self.cluster.start_all(victims)
        self.settle(True)

    def member(self, at):
        """One comes and one goes, and somebody is cut on the way of each."""
        cluster = self.cluster
        cluster.add_on_disk(cluster.leader(30)).start()
        self.cut_on_the_way(at[:3])
        cluster.wait_members(cluster.nodes)
        gone = cluster.nodes[int(at[3] * len(cluster.nodes))]
        cluster.drop(gone)
        asked = Remover(cluster, gone)
        self.cut_on_the_way(at[4:7])
        wait_for(asked.is_done, 60, f"{gone.address} to be removed")
        wait_for(lambda: not gone.running, 60, f"{gone.address} to end")
        cluster.wait_members(cluster.nodes)
        cluster.disks.pop(gone).destroy()
        self.settle(True)

    def cut_on_the_way(self, at):
        time.sleep(at[0] * 0.8)
        nodes = self.cluster.nodes
        chosen = nodes if at[1] > 0.8 else [nodes[int(at[2] * len(nodes))]]
        self.cut("member", chosen)
        self.cluster.start_all(chosen)

    def run(self, plan):
        self.cluster.start_all(self.cluster.nodes)
        births = [at for kind, at in plan if kind == "birth"]
        for at in births:
            self.birth(at)
        self.cluster.wait_started()
        with self.load:
            for kind, at in plan:
                self.progress()
                if kind == "snapshot":
                    self.snapshot(at)
                elif kind == "member":
                    self.member(at)
                elif kind != "birth":
                    self.plain(kind, at)
            self.finish()

    def finish(self):
        self.load.stop()
        self.cluster.wait_started()
        self.load.check_clients()
        try:
            self.load.check()
        except AssertionError as error:
            raise Loss(str(error)) from None
        self.cluster.wait_equal(60)
        for node in self.cluster.nodes:
            node.kill()
        self.cluster.inspect()


class Remover:
    """Asks for a removal until it is done: the node that is asked may be cut meanwhile."""

    def __init__(self, cluster, gone):
        self.cluster, self.gone = cluster, gone
        self.is_done()

    def is_done(self):
        for node in self.cluster.nodes:
            try:
                answer = node.request("DELETE", "/v1/cluster/members/" + self.gone.address, timeout=5)
                if answer.status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                pass
        return False


def live(seed, name, cuts, directory):
    """One life; what it was like."""
    life_seed = f"{seed}.{name}"
    plan = plan_of(life_seed, cuts)
    with PowerCluster(3, directory) as cluster:
        load = Load(cluster, random.Random(life_seed).randrange(1 << 30))
        life = Life(cluster, load)
        try:
            life.run(plan)
        finally:
            load.stop()
        return {"cuts": cluster.cuts, "acked": load.acked_count, "counts": life.counts,
                "nodes": life.nodes_cut, "transfers": life.transfers_cut}


# ---- workers ----

def work(seed, worker, cuts, directory, out):
    """In a process of its own: lives until so many cuts are made."""
    done, number = 0, 0
    while done < cuts:
        name = f"{worker}.{number}"
        result = live(seed, name, min(LIFE_CUTS, cuts - done), directory)
        os.write(out, (json.dumps(result) + "\n").encode())
        done += result["cuts"]
        number += 1


def end(*_):
    """Leaves by all the ways that clean up, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def fork(function, *args):
    """Runs it in a process of its own, whose mounts go with it, and which ends with this one; its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid > 0:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        disk.enter()
        function(*args)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_all(pids):
    for pid in pids:
        os.kill(pid, signal.SIGTERM)


def run_workers(args, directory):
    shares = [args.cuts * (i + 1) // args.workers - args.cuts * i // args.workers
              for i in range(args.workers)]
    running, outputs = [], {}
    signal.signal(signal.SIGTERM, lambda *_: end_all(running))
    signal.signal(signal.SIGINT, lambda *_: end_all(running))
    for worker, share in enumerate(shares):
        read_end, write_end = os.pipe()
        pid = fork(work, args.seed, worker, share, directory, write_end)
        os.close(write_end)
        running.append(pid)
        outputs[pid] = os.fdopen(read_end)
    lives, failed = [], 0
    while running:
        pid, status = os.wait()
        running.remove(pid)
        lives += [json.loads(line) for line in outputs[pid]]
        if status != 0:
            failed += 1
            end_all(running)
    return lives, failed


def summary(lives):
    counts = {}
    for life in lives:
        for kind, count in life["counts"].items():
            counts[kind] = counts.get(kind, 0) + count
    total = {name: sum(life[name] for life in lives) for name in ("cuts", "acked", "nodes", "transfers")}
    return (f"{total['cuts']} power cuts of {total['nodes']} nodes in {len(lives)} clusters ({counts}; "
            f"{total['transfers']} while a snapshot was on its way), {total['acked']} writes acknowledged")


# ---- planted bugs ----

def expect_loss(number, seed, directory):
    """All nodes lose their power until what a missing flush costs is seen."""
    env = {"LD_PRELOAD": os.path.abspath(program("tests/system/sync_shim.so")),
           "TL_SHIM_PLANT": str(number)}
    with PowerCluster(3, directory, env=env) as cluster:
        cluster.start_all(cluster.nodes)
        cluster.wait_started()
        load = Load(cluster, seed)
        life = Life(cluster, load)
        try:
            with load:
                for _ in range(5):
                    life.progress()
                    wait_for(lambda: all(n.metrics()["trilith_flushes_total"] > 0 for n in cluster.nodes),
                             60, "a flush of every table")
                    life.plain("all", [0.0] * 8)
        except Loss as loss:
            print(f"power_cut: planted bug {number} seen at cut {cluster.cuts}: "
                  + str(loss).splitlines()[0][:160])
            return
        finally:
            load.stop()
    raise AssertionError(f"planted bug {number} was not seen in {cluster.cuts} power cuts")


# ---- the page cache ----

def in_cache_only(directory):
    """A follower's log has its newest meta page in the cache, clean, and not on its disk: the flush has
    failed, and the process has ended. What the next process reads there it must not take for durable:
    after it has acknowledged, its power goes, and the leader's disk is lost."""
    with PowerCluster(3, directory) as cluster:
        leader, follower = None, None
        cluster.start_all(cluster.nodes)
        cluster.wait_started()
        leader = cluster.leader()
        follower, third = cluster.followers()
        follower.kill()
        shim = Shim(os.path.join(cluster.dir, "shim"))
        follower.start(env={**shim.env, "TL_SHIM_IMAGE": cluster.disks[follower].image})
        cluster.wait_started()
        third.kill()
        assert leader.put("before", "1").status == 201
        shim.set("lose", 1)
        answers = []
        writer = threading.Thread(target=lambda: answers.append(leader.put("key", "1")))
        writer.start()
        assert follower.wait(10) == -signal.SIGKILL, follower.process.returncode
        shim.set("lose", 0)
        before = shim.get("commits")
        follower.start(env=shim.env)
        writer.join()                            # with an entry that is in the follower's cache only
        commits = shim.get("commits") - before
        cluster.cut([leader, follower])
        assert answers and answers[0].status == 201, answers
        cluster.nodes.remove(leader)             # its disk is lost
        cluster.removed.append(leader)
        cluster.start_all([follower, third])
        cluster.wait_started()
        for key in ("before", "key"):
            if follower.get(key).status != 200:
                raise Loss(f"{key} was acknowledged, and is gone")
        print(f"power_cut: a meta page whose flush had failed was on the disk before a write was "
              f"acknowledged by it ({commits} commits later); not lost")


def alone(function, *args):
    """Whether it has gone well, in a process of its own."""
    pid = fork(function, *args)
    signal.signal(signal.SIGTERM, lambda *_: end_all([pid]))
    signal.signal(signal.SIGINT, lambda *_: end_all([pid]))
    return os.waitpid(pid, 0)[1] == 0


def image_directory():
    """Where the images are: in memory when there is room, for the flushes of many disks there cost
    nothing, and what a node's disk keeps is decided by its own file system."""
    if "TRILITH_TEST_DIR" in os.environ:
        return os.environ["TRILITH_TEST_DIR"]
    return "/dev/shm" if disk.room_for("/dev/shm", ROOM_BYTES) else os.path.abspath(BUILD)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--life")
    parser.add_argument("--expect-loss", type=int, choices=(40, 41))
    parser.add_argument("--cache", action="store_true")
    args = parser.parse_args()
    reason = disk.refusal()
    if reason is not None:
        print(f"power_cut: skipped: {reason}")
        return
    directory = image_directory()
    print(f"power_cut: seed {args.seed}, images in {directory}", flush=True)
    began = time.monotonic()
    if args.cache:
        sys.exit(0 if alone(in_cache_only, os.path.abspath(BUILD)) else 1)
    if args.expect_loss:
        sys.exit(0 if alone(expect_loss, args.expect_loss, args.seed, directory) else 1)
    if args.life:
        sys.exit(0 if alone(lambda: print(live(args.seed, args.life, LIFE_CUTS, directory))) else 1)
    lives, failed = run_workers(args, directory)
    assert failed == 0, f"{failed} workers failed: seed {args.seed}"
    print(f"power_cut: {summary(lives)}, none lost; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
