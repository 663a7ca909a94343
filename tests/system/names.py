#!/usr/bin/env python3
"""Names: a cluster whose nodes know each other by names, with the first name server dead.

Runs in namespaces of its own (user, mount, network), with its own resolv.conf, hosts and name servers on
loopback: the first answers until it is told not to, the second always. A resolver then asks the second one
after two seconds; the default is five, which takes longer and shows no more.

- A rolling restart with the first server dead: each node is ready again, and writes go on meanwhile.
- `localhost` has two families: HTTP and peers are served on both.
- The command line finds a node by its name.
"""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from cluster import Cluster, program, wait_for

DOMAIN = "trilith.test"
SERVERS = ("127.0.0.10", "127.0.0.11")
RESOLVER_TIMEOUT_S = 2
READY_S = 30                 # of a node that is started: several look-ups one after the other
INSIDE = "TRILITH_NAMES_INSIDE"


def enter_namespaces():
    """Runs this program again in namespaces of its own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--propagation", "private"]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("names.py: no namespaces for this user: skipped")
        sys.exit(77)
    os.execvpe(command[0], [*command, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def set_up(directory):
    """The mounts and the device end with the namespaces."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    files = {
        "/etc/resolv.conf": "".join(f"nameserver {s}\n" for s in SERVERS)
        + f"options timeout:{RESOLVER_TIMEOUT_S} attempts:2\n",
        "/etc/hosts": "::1 localhost\n127.0.0.1 localhost\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    for path, text in files.items():
        own = os.path.join(directory, os.path.basename(path))
        with open(own, "w") as f:
            f.write(text)
        subprocess.run(["mount", "--bind", own, path], check=True)


class NameServer:
    """Says 127.0.0.1 of every name below DOMAIN, over UDP. A dead one takes questions and is silent, as a
    machine does that is gone: nothing refuses them."""

    def __init__(self, address):
        self.is_dead, self.questions = False, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            question, asker = self.socket.recvfrom(512)
            self.questions += 1
            if not self.is_dead:
                self.socket.sendto(self.answer(question), asker)

    @staticmethod
    def answer(question):
        end = question.index(b"\0", 12) + 5
        kind = struct.unpack(">H", question[end - 4:end - 2])[0]
        is_known = DOMAIN.encode().split(b".")[0] in question[12:end]
        has_address = is_known and kind == 1  # A; no name here has an AAAA
        flags = 0x8580 if is_known else 0x8583
        head = question[:2] + struct.pack(">HHHHH", flags, 1, int(has_address), 0, 0)
        record = struct.pack(">HHHIH", 0xc00c, 1, 1, 0, 4) + socket.inet_aton("127.0.0.1")
        return head + question[12:end] + (record if has_address else b"")


def name_nodes(cluster):
    for i, node in enumerate(cluster.nodes):
        node.address = f"n{i}.{DOMAIN}:{node.port}"
    cluster.view = ",".join(n.address for n in cluster.nodes)


class Writer:
    """Writes through the nodes that run, one write after the other; the longest time without one."""

    def __init__(self, cluster):
        self.cluster, self.is_stopping, self.written = cluster, False, 0
        self.longest_s, self.last = 0.0, time.monotonic()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_stopping:
            for node in self.cluster.nodes:
                try:
                    if node.running and node.put(f"k{self.written}", "v", timeout=3).status in (200, 201):
                        now = time.monotonic()
                        self.longest_s = max(self.longest_s, now - self.last)
                        self.last, self.written = now, self.written + 1
                except OSError:
                    pass
            time.sleep(0.01)

    def stop(self):
        self.is_stopping = True
        self.thread.join()
        self.longest_s = max(self.longest_s, time.monotonic() - self.last)


def rolling_restart(first):
    with Cluster(3, start=False) as cluster:
        name_nodes(cluster)
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        first.is_dead = True
        writer = Writer(cluster)
        try:
            for node in cluster.nodes:
                assert node.kill(15) == 0
                node.start()
                cluster.wait_ready([node], READY_S)
        finally:
            writer.stop()
        assert first.questions > 0, "the first name server was asked"
        assert writer.written > 0
        # Two nodes stay connected while the third is away: nothing is looked up in the way of a write.
        assert writer.longest_s < 5, f"{writer.longest_s:.1f} s without a write"
        cluster.wait_equal()
        value = subprocess.run([program("trilith"), "-e", cluster.nodes[1].address, "get", "k0"],
                               capture_output=True, timeout=60)
        assert value.returncode == 0 and value.stdout == b"v", value
        print(f"rolling restart: {writer.written} writes, at most {writer.longest_s:.2f} s apart")
        first.is_dead = False


def connects(host, port):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


def two_families():
    with Cluster(2, start=False) as cluster:
        for node in cluster.nodes:
            node.address = f"localhost:{node.port}"
        cluster.view = ",".join(n.address for n in cluster.nodes)
        for node in cluster.nodes:
            node.start()
        for node in cluster.nodes:
            wait_for(lambda: connects("127.0.0.1", node.port), 10, "HTTP", node)
        cluster.wait_ready()
        for node in cluster.nodes:
            for host in ("127.0.0.1", "::1"):
                for port in (node.port, node.port + 10000):
                    assert connects(host, port), f"nothing listens on {host} port {port}"
        print("localhost: both listeners on both families")


def main():
    if INSIDE not in os.environ:
        enter_namespaces()
    with tempfile.TemporaryDirectory(prefix="trilith-names-") as directory:
        set_up(directory)
        servers = [NameServer(address) for address in SERVERS]
        two_families()
        rolling_restart(servers[0])


main()
