#!/usr/bin/env python3
"""Slow links: a token bucket per directed link, between nodes in network namespaces of their own.

links.py [--rates MBIT,...] [--nodes N,...] [--etcd] [--build DIR]

At each rate, with each number of nodes:
  large values   values of 1 and 2 MiB are written through the leader and through a follower: each is
                 acknowledged, and nobody is elected meanwhile
  load           clients write large and small values for some seconds: nobody is elected
  catching up    a follower comes back 15 MB behind, and another node dies in different moments of its
                 catching up: a write is acknowledged within missing bytes / bandwidth + 2 s, after at
                 most one election

With --etcd the same is measured with etcd, where it is installed, beside it: one table at the end.

The data are in memory, unless TRILITH_TEST_DIR says where. The test runs in a network namespace that
it makes for itself, and each node in another one; they end with their last process. A link of a pair
of nodes is a veth, its two ends have a token bucket each.
Needs root: without, it says so and passes.
"""

import argparse
import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import cluster
from cluster import Cluster, Node, wait_for

MIB = 1024 * 1024
BEHIND_VALUES = 15
BEHIND_VALUE_BYTES = 1_000_000
MEMORY = "/dev/shm"             # for the data: links are measured, no disks
PORT = 8080
HOST = "10.77.0.{}"             # of a node, on its loopback device
MANAGE = "10.78.{}.{}"          # the test's way to it, without a bucket


def run(*command):
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """One namespace per node, held by a process that ends with the test."""

    def __init__(self, count, mbit):
        self.count, self.mbit = count, mbit
        self.holders = [subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net",
                                          "sh", "-c", "echo; exec sleep 100000"],
                                         stdout=subprocess.PIPE) for _ in range(count)]
        for holder in self.holders:
            holder.stdout.readline()    # its namespace is there

    def inside(self, i):
        return ["nsenter", f"--net=/proc/{self.holders[i].pid}/ns/net", "--"]

    def __enter__(self):
        try:
            for i in range(self.count):
                run(*self.inside(i), "ip", "address", "add", f"{HOST.format(i + 1)}/32", "dev", "lo")
                run(*self.inside(i), "ip", "link", "set", "lo", "up")
                self.manage(i)
            for i in range(self.count):
                for j in range(i):
                    self.connect(i, j)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for holder in self.holders:
            holder.kill()
            holder.wait()
        for i in range(self.count):     # the other end goes with its namespace, but not at once
            subprocess.run(["ip", "link", "del", f"m{i}"], stderr=subprocess.DEVNULL)

    def manage(self, i):
        run("ip", "link", "add", f"m{i}", "type", "veth", "peer", "name", "manage", "netns",
            str(self.holders[i].pid))
        run("ip", "address", "add", f"{MANAGE.format(i, 1)}/24", "dev", f"m{i}")
        run("ip", "link", "set", f"m{i}", "up")
        run(*self.inside(i), "ip", "address", "add", f"{MANAGE.format(i, 2)}/24", "dev", "manage")
        run(*self.inside(i), "ip", "link", "set", "manage", "up")
        run("ip", "route", "add", HOST.format(i + 1), "via", MANAGE.format(i, 2))

    def connect(self, i, j):
        run(*self.inside(i), "ip", "link", "add", f"n{j}", "type", "veth", "peer", "name", f"n{i}",
            "netns", str(self.holders[j].pid))
        for here, there in ((i, j), (j, i)):
            inside = self.inside(here)
            run(*inside, "ip", "link", "set", f"n{there}", "up")
            run(*inside, "tc", "qdisc", "add", "dev", f"n{there}", "root", "tbf", "rate",
                f"{self.mbit}mbit", "burst", str(max(32768, self.mbit * 1_000_000 // 8 // 250)),
                "latency", "50ms")
        for here, there in ((i, j), (j, i)):
            run(*self.inside(here), "ip", "route", "add", HOST.format(there + 1), "dev", f"n{there}",
                "src", HOST.format(here + 1))


class Trilith(Cluster):
    name = "trilith"

    def __init__(self, network, build):
        self.network, self.build = network, build
        super().__init__(network.count, ["--allow-any-fs", "--max-value-size", "2MiB"])

    def make_nodes(self, count):
        nodes = [Node(self, PORT, HOST.format(i + 1)) for i in range(count)]
        for i, node in enumerate(nodes):
            node.wrapper = ["setpriv", "--pdeathsig", "KILL", *self.network.inside(i)]
            node.program = os.path.join(self.build, "trilithd")
        return nodes

    def put(self, node, key, value, timeout=20):
        answer = node.put(key, value, timeout=timeout)
        return answer.status in (200, 201), answer.status

    def term(self):
        return max(self.data_group(n)["term"] for n in self.nodes if n.running)

    def last(self, node):
        return self.data_group(node)["last"]


class Etcd:
    """As much of Cluster as is needed here, with the same shape."""
    name = "etcd"

    def __init__(self, network, _):
        self.network = network
        self.dir = cluster.tempfile.mkdtemp(prefix="links-etcd-", dir=os.environ["TRILITH_TEST_DIR"])
        self.nodes = [EtcdNode(self, i) for i in range(network.count)]

    def __enter__(self):
        for node in self.nodes:
            node.start()
        wait_for(lambda: all(n.leader_id() for n in self.nodes), 20, "etcd to be ready")
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def put(self, node, key, value, timeout=20):
        body = {"key": base64.b64encode(key.encode()).decode(),
                "value": base64.b64encode(value).decode()}
        status, _ = node.ask("/v3/kv/put", body, timeout)
        return status == 200, status

    def leader(self):
        ids = {}

        def agreed():
            ids.clear()
            ids.update({n: n.leader_id() for n in self.nodes if n.running})
            return len(set(ids.values())) == 1 and None not in ids.values()

        wait_for(agreed, 20, "one leader")
        return next(n for n in ids if n.own_id() == ids[n])

    def followers(self):
        leader = self.leader()
        return [n for n in self.nodes if n is not leader and n.running]

    def term(self):
        return max(int(n.status().get("raftTerm", 0)) for n in self.nodes if n.running)

    def last(self, node):
        return int(node.status().get("raftIndex", 0))


class EtcdNode:
    def __init__(self, cluster, i):
        self.cluster, self.i, self.host = cluster, i, HOST.format(i + 1)
        self.address = f"{self.host}:2379"
        self.process = None

    def start(self):
        peers = ",".join(f"e{n}=http://{HOST.format(n + 1)}:2380"
                         for n in range(self.cluster.network.count))
        log = open(os.path.join(self.cluster.dir, f"{self.i}.log"), "ab")
        command = [*self.cluster.network.inside(self.i), "etcd", "--name", f"e{self.i}",
                   "--data-dir", os.path.join(self.cluster.dir, str(self.i)),
                   "--listen-client-urls", f"http://{self.host}:2379",
                   "--advertise-client-urls", f"http://{self.host}:2379",
                   "--listen-peer-urls", f"http://{self.host}:2380",
                   "--initial-advertise-peer-urls", f"http://{self.host}:2380",
                   "--initial-cluster", peers, "--max-request-bytes", str(8 * MIB),
                   "--quota-backend-bytes", str(1024 * MIB), "--logger", "zap"]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log,
                                        stderr=log, stdin=subprocess.DEVNULL)
        log.close()

    def kill(self):
        if self.running:
            self.process.kill()
        if self.process:
            self.process.wait()

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def ask(self, path, body, timeout=2):
        connection = http.client.HTTPConnection(self.host, 2379, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def status(self):
        try:
            return self.ask("/v3/maintenance/status", {})[1]
        except (OSError, http.client.HTTPException):
            return {}

    def leader_id(self):
        leader = self.status().get("leader", "0")
        return leader if leader != "0" else None

    def own_id(self):
        return self.status().get("header", {}).get("member_id")


def value_of(count, number):
    return os.urandom(64).ljust(count, b"%d" % (number % 10))


def large_values(system, report):
    """Writes 1 and 2 MiB through the leader and through a follower."""
    term = system.term()
    failed, times = [], []
    for size in (1, 2):
        for number in range(8):
            node = system.leader() if number % 2 == 0 else system.followers()[0]
            begin = time.monotonic()
            try:
                good, status = system.put(node, f"large{number}", value_of(size * MIB, number))
            except OSError as error:
                good, status = False, error
            if good:
                times.append(time.monotonic() - begin)
            else:
                failed.append(f"{size} MiB: {status}")
    report["large_failed"], report["large_elections"] = len(failed), system.term() - term
    report["large_slowest"] = max(times, default=None)
    if failed:
        print(f"  large values failed: {failed}")


def load(system, report, seconds=10):
    """Eight clients of large values and eight of small ones."""
    term = system.term()
    until = time.monotonic() + seconds
    counts, slowest = {"ok": 0, "failed": 0}, [0.0]
    lock = threading.Lock()

    def client(number):
        size = 256 * 1024 if number < 8 else 100
        while time.monotonic() < until:
            node = system.nodes[number % len(system.nodes)]
            begin = time.monotonic()
            try:
                good = system.put(node, f"load{number}", value_of(size, number))[0]
            except OSError:
                good = False
            with lock:
                counts["ok" if good else "failed"] += 1
                slowest[0] = max(slowest[0], time.monotonic() - begin)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report["load_elections"] = system.term() - term
    report["load_ok"], report["load_failed"] = counts["ok"], counts["failed"]
    report["load_slowest"] = slowest[0]


def put_until_accepted(system, nodes, limit):
    """Asks all nodes in turn; seconds until the first acknowledgement."""
    begin = time.monotonic()
    done, stop = [], threading.Event()

    def client(node):
        while not stop.is_set():
            try:
                if system.put(node, "after", b"death", timeout=1.5)[0]:
                    done.append(time.monotonic() - begin)
                    stop.set()
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)

    threads = [threading.Thread(target=client, args=(n,)) for n in nodes]
    for thread in threads:
        thread.start()
    stop.wait(limit)
    stop.set()
    for thread in threads:
        thread.join()
    return min(done, default=None)


def catch_up_once(system, mbit, victim_leads, delay):
    """Returns (bytes missing at the death, seconds until a write, elections)."""
    leader, followers = system.leader(), system.followers()
    spare = (len(system.nodes) - 3) // 2
    behind, down = followers[0], followers[1:1 + spare]
    for node in [behind, *down]:
        node.kill()
    for number in range(BEHIND_VALUES):
        good, status = system.put(leader, f"behind{number}", value_of(BEHIND_VALUE_BYTES, number))
        assert good, f"while one is away: {status}"
    victim = leader if victim_leads else followers[1 + spare]
    last = system.last(leader)
    behind.start()
    wait_for(lambda: answers(system, behind), 10, "the follower to answer", None)
    time.sleep(delay)
    missing = min(max(last - system.last(behind), 0), BEHIND_VALUES) * BEHIND_VALUE_BYTES
    term = system.term()
    victim.kill()
    rest = [n for n in system.nodes if n.running]
    took = put_until_accepted(system, rest, 60)
    elections = system.term() - term
    for node in [victim, *down]:
        node.start()
    wait_for(lambda: all_equal(system), 60, "all nodes to catch up")
    return missing, took, elections


def answers(system, node):
    try:
        system.last(node)
        return True
    except (OSError, http.client.HTTPException, StopIteration, KeyError):
        return False


def all_equal(system):
    try:
        return len({system.last(n) for n in system.nodes}) == 1
    except (OSError, http.client.HTTPException, StopIteration, KeyError):
        return False


def catching_up(system, mbit, report, delays):
    worst = None
    for victim_leads in (True, False):
        for delay in delays:
            missing, took, elections = catch_up_once(system, mbit, victim_leads, delay)
            allowed = missing * 8 / (mbit * 1_000_000) + 2
            print(f"  {system.name} {'leader' if victim_leads else 'follower'} dies {delay:.1f} s after "
                  f"the return: {missing / 1e6:.0f} MB missing, "
                  f"{'no write' if took is None else f'write after {took:.2f} s'} "
                  f"(allowed {allowed:.2f}), {elections} elections")
            over = (60 if took is None else took) - allowed
            if worst is None or over > worst[0]:
                worst = (over, took, allowed)
            report["catch_elections"] = max(report.get("catch_elections", 0), elections)
    report["catch_over"], report["catch_took"], report["catch_allowed"] = worst


def measure(kind, build, mbit, count, args):
    report = {"system": kind.name, "mbit": mbit, "nodes": count}
    print(f"{kind.name}: {mbit} Mbit/s, {count} nodes", flush=True)
    with Network(count, mbit) as network, kind(network, build) as system:
        large_values(system, report)
        load(system, report, args.load_seconds)
        catching_up(system, mbit, report, args.delays)
    return report


def seconds(value):
    return "-" if value is None else f"{value:.2f} s"


def print_table(reports):
    print("| system | Mbit/s | nodes | 1 and 2 MiB: failed of 16 | slowest | elections | load: failed | slowest "
          "| elections | catching up: write after | allowed | elections |")
    print("|" + "---|" * 12)
    for r in reports:
        print(f"| {r['system']} | {r['mbit']} | {r['nodes']} | {r['large_failed']} | "
              f"{seconds(r['large_slowest'])} | {r['large_elections']} | "
              f"{r['load_failed']} of {r['load_failed'] + r['load_ok']} | {seconds(r['load_slowest'])} | "
              f"{r['load_elections']} | {seconds(r['catch_took'])} | {seconds(r['catch_allowed'])} | "
              f"{r['catch_elections']} |")


def check(report):
    assert report["large_failed"] == 0, report
    assert report["large_elections"] == 0, report
    assert report["load_elections"] == 0, report
    assert report["load_failed"] == 0, report
    assert report["catch_over"] <= 0, report
    assert report["catch_elections"] <= 1, report


def numbers(text):
    return [float(n) if "." in n else int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=numbers, default=[20], help="Mbit/s")
    parser.add_argument("--nodes", type=numbers, default=[3])
    parser.add_argument("--delays", type=numbers, default=[1],
                        help="seconds from the return of a node to the death of another one")
    parser.add_argument("--load-seconds", type=float, default=5)
    parser.add_argument("--etcd", action="store_true")
    parser.add_argument("--build", default=cluster.BUILD, help="where trilithd is")
    parser.add_argument("--no-check", action="store_true", help="measure only")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("links: skipped: needs root")
        return
    os.environ.setdefault("TRILITH_TEST_DIR", MEMORY if os.path.isdir(MEMORY)
                          else os.path.abspath(cluster.BUILD))
    if os.environ.get("TL_LINKS_NAMESPACE") != str(os.getpid()):
        os.environ["TL_LINKS_NAMESPACE"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    reports = []
    kinds = [Trilith]
    if args.etcd and shutil.which("etcd"):
        kinds.append(Etcd)
    elif args.etcd:
        print("links: etcd is not installed: measured without it")
    for mbit in args.rates:
        for count in args.nodes:
            for kind in kinds:
                reports.append(measure(kind, args.build, mbit, count, args))
    print_table(reports)
    checked = [r for r in reports if r["system"] == Trilith.name and not args.no_check]
    for report in checked:
        check(report)
        print(f"links: {report['mbit']} Mbit/s, {report['nodes']} nodes: values of 1 and 2 MiB within "
              f"{seconds(report['large_slowest'])}, no election under load; a write "
              f"{seconds(report['catch_took'])} after a death while a follower lacks 15 MB (allowed "
              f"{seconds(report['catch_allowed'])}), {report['catch_elections']} elections")


if __name__ == "__main__":
    main()
