#!/usr/bin/env python3
"""What a turn of a node's loop costs in CPU time while requests are large, and that no leader loses its place by it.

turns.py [--seconds N] [--cpu-ms N] [--only LOAD] [--connections N]

txn    250 connections with transactions of nothing but three gets of 1 MB
put    16 connections with puts of 1 MiB
get    64 connections with gets of 1 MB, at all three nodes
mixed  64 connections with small puts and gets

For each: no election, and the 99.9th percentile of the CPU time of a turn, as trilith_loop_turn_cpu_seconds
counts it, is at most --cpu-ms on every node.
"""

import argparse
import json
import os
import selectors
import socket
import subprocess
import time

from cluster import Cluster, program

MB = 1000 * 1000
BUCKET = 'trilith_loop_turn_cpu_seconds_bucket{le="'


class Connection:
    """Sends one request again and again, and throws the answers away."""

    def __init__(self, port, request):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.request = request
        self.begin()

    def begin(self):
        self.to_send, self.head, self.left, self.status = memoryview(self.request), b"", None, None

    def events(self):
        return selectors.EVENT_WRITE if self.to_send else selectors.EVENT_READ

    def send(self):
        try:
            self.to_send = self.to_send[self.socket.send(self.to_send):]
        except BlockingIOError:
            pass

    def receive(self, room):
        """The status of an answer that has arrived whole, or None."""
        try:
            count = self.socket.recv_into(room)
        except BlockingIOError:
            return None
        assert count > 0, "the connection was closed"
        if self.left is None:
            self.head += bytes(room[:count])
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return None
            lines = self.head[:end].lower().split(b"\r\n")
            self.status = int(lines[0].split()[1])
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            self.left = length - (len(self.head) - end - 4)
        else:
            self.left -= count
        if self.left > 0:
            return None
        return self.status


def drive(connections, seconds):
    """How often each status was answered."""
    room = bytearray(MB)
    statuses = {}
    with selectors.DefaultSelector() as selector:
        for c in connections:
            selector.register(c.socket, c.events(), c)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(0.1):
                c, before = key.data, key.events
                if c.to_send:
                    c.send()
                elif (status := c.receive(room)) is not None:
                    statuses[status] = statuses.get(status, 0) + 1
                    c.begin()
                if c.events() != before:
                    selector.modify(c.socket, c.events(), c)
    for c in connections:
        c.socket.close()
    return statuses


def request(method, path, body=b"", media_type="application/json"):
    return (f"{method} {path} HTTP/1.1\r\nHost: trilith\r\nContent-Type: {media_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def raw(cluster, count, requests, seconds):
    ports = [node.port for node in cluster.nodes]
    return drive([Connection(ports[i % len(ports)], requests[i % len(requests)]) for i in range(count)],
                 seconds)


def txn(cluster, args):
    gets = [{"op": "get", "key": f"large{i}"} for i in range(3)]
    body = json.dumps({"then": gets}).encode()
    return raw(cluster, args.connections, [request("POST", "/v1/txn", body)], args.seconds)


def put(cluster, args):
    value = os.urandom(1024 * 1024)
    requests = [request("PUT", f"/v1/kv/put{i}", value, "application/octet-stream") for i in range(16)]
    return raw(cluster, 16, requests, args.seconds)


def get(cluster, args):
    requests = [request("GET", f"/v1/kv/large{i}") for i in range(3)]
    return raw(cluster, 64, requests, args.seconds)


def mixed(cluster, args):
    targets = ",".join(node.address for node in cluster.nodes)
    done = subprocess.run([program("trilith-bench"), "-t", targets, "-m", "mixed", "-s", str(args.seconds)],
                          capture_output=True, text=True, check=True)
    return {200: json.loads(done.stdout)["ok"]}


def turns(node):
    """The histogram: (upper bound in seconds, turns up to it)."""
    metrics = node.metrics()
    return sorted((float(name[len(BUCKET):-2]), count) for name, count in metrics.items()
                  if name.startswith(BUCKET))


def quantile(before, after, share):
    """The upper bound of the bucket in which it lies."""
    counts = [(bound, count - dict(before)[bound]) for bound, count in after]
    return next(bound for bound, count in counts if count >= share * counts[-1][1])


def terms(cluster):
    return [cluster.data_group(node)["term"] for node in cluster.nodes]


def run(cluster, name, load, args):
    leader = cluster.leader()
    before, terms_before = [turns(node) for node in cluster.nodes], terms(cluster)
    statuses = load(cluster, args)
    after = [turns(node) for node in cluster.nodes]
    elections = max(terms(cluster)) - max(terms_before)
    slow = [1000 * quantile(b, a, 0.999) for b, a in zip(before, after)]
    count = sum(a[-1][1] - b[-1][1] for b, a in zip(before, after))
    at = cluster.nodes.index(leader)
    print(f"turns: {name}: " + ", ".join(f"{n} x {s}" for s, n in sorted(statuses.items())) +
          f"; {elections} elections; CPU time of {count:.0f} turns, p99.9: leader {slow[at]:.2f} ms, others "
          + " ".join(f"{s:.2f}" for i, s in enumerate(slow) if i != at) + " ms", flush=True)
    return elections, max(slow)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--cpu-ms", type=float, default=5.12, help="a bound of the histogram's buckets")
    parser.add_argument("--connections", type=int, default=250, help="of the load txn")
    parser.add_argument("--only")
    args = parser.parse_args()
    wrong = []
    with Cluster(3) as cluster:
        for i in range(3):
            answer = cluster.nodes[0].put(f"large{i}", b"v" * MB, {"Content-Type": "text/plain"})
            assert answer.status == 201, answer
        for name, load in (("txn", txn), ("put", put), ("get", get), ("mixed", mixed)):
            if args.only in (None, name):
                elections, slow = run(cluster, name, load, args)
                if elections or slow > args.cpu_ms:
                    wrong.append(f"{name}: {elections} elections, {slow:.2f} ms")
                cluster.wait_ready()
    assert not wrong, wrong


if __name__ == "__main__":
    main()
