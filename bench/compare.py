#!/usr/bin/env python3
"""Trilith against etcd on this machine, interleaved, medians and ratios.

Three nodes each on loopback with data on the same file system, 64 keep-alive connections to the leader,
256-byte values, 100,000 uniform keys. etcd is asked by gRPC through h2load (packages etcd-server,
etcd-client, nghttp2-client), Trilith by trilith-bench. Both run all the time; only one is asked at a
time, A-B-A-B-A-B. h2load repeats one request, so etcd writes and reads a single key: the easier work.

compare.py [--rounds N] [--seconds S]      run from the build directory
"""

import argparse
import base64
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/system"))
from cluster import Cluster, free_ports, program, wait_for  # noqa: E402


class Etcd:
    def __init__(self, directory):
        self.processes = []
        ports = free_ports(6)
        self.clients, peers = ports[:3], ports[3:]
        self.dir = tempfile.mkdtemp(prefix="etcd-", dir=directory)
        cluster = ",".join(f"n{i}=http://127.0.0.1:{p}" for i, p in enumerate(peers))
        for i in range(3):
            client, peer = (f"http://127.0.0.1:{p}" for p in (self.clients[i], peers[i]))
            self.processes.append(subprocess.Popen(
                ["etcd", "--name", f"n{i}", "--data-dir", f"{self.dir}/n{i}",
                 "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", cluster, "--log-level", "error"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for(lambda: self.leader_port() is not None, 30, "etcd's leader")

    def post(self, port, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
        return json.load(urllib.request.urlopen(request, timeout=2))

    def leader_port(self):
        for port in self.clients:
            try:
                s = self.post(port, "/v3/maintenance/status", {})
                if s["leader"] == s["header"]["member_id"]:
                    return port
            except (OSError, KeyError):
                pass
        return None

    def load(self, method, message, connections, seconds, requests=None):
        path = os.path.join(self.dir, "body")
        with open(path, "wb") as f:
            f.write(struct.pack(">BI", 0, len(message)) + message)
        bound = ["-n", str(requests)] if requests else ["-D", str(seconds), "--warm-up-time", "1"]
        out = subprocess.run(
            ["h2load", "-c", str(connections), "-m", "1", *bound, "-d", path,
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"http://127.0.0.1:{self.leader_port()}/etcdserverpb.KV/{method}"],
            stdout=subprocess.PIPE, check=True).stdout.decode()
        failed = re.search(r"(\d+) failed, (\d+) errored", out)
        assert failed.groups() == ("0", "0"), out
        return float(re.search(r"([\d.]+) req/s", out).group(1)), out

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def field(number, data):
    assert len(data) < 1 << 14
    n = len(data)
    length = bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])
    return bytes([number << 3 | 2]) + length + data


KEY = b"bench/0000000001"
PUT = field(1, KEY) + field(2, b"x" * 256)
RANGE = field(1, KEY)


def etcd_p50_us(etcd, count=1500):
    """One client, one put at a time, over one connection: the median, from h2load's own log."""
    log = os.path.join(etcd.dir, "times")
    if os.path.exists(log):
        os.remove(log)
    path = os.path.join(etcd.dir, "body")
    with open(path, "wb") as f:
        f.write(struct.pack(">BI", 0, len(PUT)) + PUT)
    subprocess.run(["h2load", "-c", "1", "-m", "1", "-n", str(count), "-d", path, "--log-file", log,
                    "-H", "content-type: application/grpc", "-H", "te: trailers",
                    f"http://127.0.0.1:{etcd.leader_port()}/etcdserverpb.KV/Put"],
                   stdout=subprocess.DEVNULL, check=True)
    return statistics.median(int(line.split()[2]) for line in open(log))


def trilith(leader, mode, connections, seconds):
    out = subprocess.check_output([program("trilith-bench"), "--targets", leader.address, "--mode", mode,
                                   "--connections", str(connections), "--seconds", str(seconds)])
    result = json.loads(out)
    assert result["failed"] == 0 and result["not_found"] == 0, result
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    args = parser.parse_args()
    with Cluster(3) as cluster:
        etcd = Etcd(cluster.dir)
        try:
            etcd.post(etcd.leader_port(), "/v3/kv/put",
                      {"key": base64.b64encode(KEY).decode(), "value": base64.b64encode(b"x" * 256).decode()})
            leader = cluster.leader()
            subprocess.check_output([program("trilith-bench"), "--targets", leader.address, "--fill"])
            figures = {name: ([], []) for name in ("puts/s", "gets/s", "sequential put us")}
            for _ in range(args.rounds):
                for name, ours, theirs in (
                        ("puts/s", lambda: trilith(leader, "put", 64, args.seconds)["ops_per_s"],
                         lambda: etcd.load("Put", PUT, 64, args.seconds)[0]),
                        ("gets/s", lambda: trilith(leader, "get", 64, args.seconds)["ops_per_s"],
                         lambda: etcd.load("Range", RANGE, 64, args.seconds)[0]),
                        ("sequential put us", lambda: trilith(leader, "put", 1, 3)["p50_us"],
                         lambda: etcd_p50_us(etcd))):
                    figures[name][0].append(ours())
                    figures[name][1].append(theirs())
                    print(f"{name}: trilith {figures[name][0][-1]:.0f} etcd {figures[name][1][-1]:.0f}",
                          flush=True)
            for name, (ours, theirs) in figures.items():
                a, b = statistics.median(ours), statistics.median(theirs)
                print(f"median {name}: trilith {a:.0f}, etcd {b:.0f}, ratio {a / b:.2f}")
        finally:
            etcd.stop()


if __name__ == "__main__":
    main()
