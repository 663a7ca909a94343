"""A cluster of real trilithd processes on loopback, for the system tests.

Everything it starts it ends, by pid; ports are free ones of 127.0.0.1; data lives under a directory of
its own that is removed unless TRILITH_KEEP is set.
"""

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

BUILD = os.environ.get("builddir", ".")


def program(name):
    path = os.path.join(BUILD, name)
    if not os.path.exists(path):
        raise SystemExit(f"{path} is not built")
    return path


def free_ports(count, taken=()):
    """Ports, not those taken, whose peer port (+ 10000) is free too; both below those that the kernel gives to outgoing
    connections, one of which could else sit on the port of a node that is down."""
    found, port = [], 12000 + os.getpid() % 1000 * 10
    while len(found) < count:
        port = port + 1 if port < 22000 else 12000
        if port in taken:
            continue
        try:
            for p in (port, port + 10000):
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", p))
            found.append(port)
        except OSError:
            pass
    return found


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def revision(self):
        return int(self.headers["ETag"].strip('"'))

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Node:
    def __init__(self, cluster, port, host="127.0.0.1"):
        self.cluster, self.port, self.host = cluster, port, host
        self.address = f"{host}:{port}"
        name = str(port) if host == "127.0.0.1" else self.address
        self.dir = os.path.join(cluster.dir, name)
        self.log = os.path.join(cluster.dir, f"{name}.log")
        self.program = program("trilithd")
        self.process = None
        self.env = {}                     # of its process, each time it starts
        self.wrapper = []                 # a command that becomes the program, in a namespace say
        self.join = None                  # the node to join through, instead of a view

    def start(self, options=(), env=None, view=None):
        assert self.process is None or self.process.poll() is not None
        where = ["--join", self.join.address] if self.join else ["--view", view or self.cluster.view]
        command = [*self.wrapper, self.program, "--address", self.address, *where,
                   "--data-dir", self.dir, *self.cluster.options, *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL,
                                            env={**os.environ, **self.cluster.env, **self.env,
                                                 **(env or {})})
        return self

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(sig)
        return self.wait()

    def wait(self, timeout=30):
        return self.process.wait(timeout) if self.process else None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def request(self, method, path, body=None, headers=None, timeout=10):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            r = connection.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            connection.close()

    def get(self, key, **kw):
        return self.request("GET", f"/v1/kv/{key}", **kw)

    def members(self):
        """As this node knows them: the members' addresses and roles, each group's voters, learners and
        outgoing voters, and the placement's epoch."""
        cluster = self.request("GET", "/v1/cluster", timeout=2).json()
        roles = [(m["address"], m["role"]) for m in cluster["members"]]
        confs = [(sorted(g["voters"], key=str), g["learners"], g.get("outgoing", []))
                 for g in cluster["groups"]]
        return roles, confs, cluster["placement_epoch"]

    def empty(self):
        shutil.rmtree(self.dir)

    def put(self, key, value, headers=None, **kw):
        return self.request("PUT", f"/v1/kv/{key}", body=value, headers=headers, **kw)

    def status(self):
        return self.request("GET", "/admin/status", timeout=2).json()

    def metrics(self):
        values = {}
        for line in self.request("GET", "/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def ready(self):
        try:
            return self.request("GET", "/readyz", timeout=1).status == 200
        except OSError:
            return False

    def rss_anon(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        return 0

    def log_text(self):
        return open(self.log, errors="replace").read()

    def log_env_bytes(self):
        return os.stat(os.path.join(self.dir, "log", "data.mdb")).st_blocks * 512


class Fake:
    """A node made of its answers, for what no real cluster does at will. answer(node, method, path, body)
    returns what becomes JSON, a status with it, or None: the answer is lost."""

    def __init__(self, answer):
        node, self.asked = self, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                node.asked.append((self.command, self.path, body))
                answered = answer(node, self.command, self.path, body)
                self.close_connection = True
                if answered is None:
                    return
                status, document = answered if isinstance(answered, tuple) else (200, answered)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            do_GET = do_POST = do_DELETE = serve

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Cluster:
    """with Cluster(3) as c: ... ; started and ready inside."""

    def __init__(self, count=3, options=(), env=None, start=True):
        base = os.environ.get("TRILITH_TEST_DIR", os.path.abspath(BUILD))
        self.dir = tempfile.mkdtemp(prefix="trilith-system-", dir=base)
        self.options, self.env, self.to_start = list(options), env or {}, start
        self.nodes = self.make_nodes(count)
        self.view = ",".join(n.address for n in self.nodes)
        self.removed = []

    def make_nodes(self, count):
        return [Node(self, port) for port in free_ports(count)]

    def add(self, join):
        """A further node, which joins through `join`; not started."""
        node = Node(self, free_ports(1, [n.port for n in self.nodes + self.removed])[0])
        node.join = join
        self.nodes.append(node)
        return node

    def add_again(self, node, join):
        """One that was removed, with an emptied directory; not started."""
        node.empty()
        node.join = join
        self.removed.remove(node)
        self.nodes.append(node)
        return node

    def drop(self, node):
        """A node that was removed: nobody asks it any more, and it is ended with the others."""
        self.nodes.remove(node)
        self.removed.append(node)

    def wait_members(self, nodes, timeout=60):
        """Until exactly these vote in every group and no change is under way, as every one of them
        sees it, at the same epoch of the placement."""
        wanted = sorted(n.address for n in nodes)
        seen = []

        def settled():
            seen.clear()
            try:
                seen.extend((n.address, *n.members()) for n in nodes)
            except (OSError, http.client.HTTPException):
                return False
            return len({epoch for *_, epoch in seen}) == 1 and all(
                sorted(roles) == [(a, "voter") for a in wanted] and confs
                and all(c == (wanted, [], []) for c in confs) for _, roles, confs, _ in seen)

        try:
            wait_for(settled, timeout, "the members")
        except AssertionError as error:
            raise AssertionError(f"{error}: wanted {wanted}, seen {seen}") from None

    def __enter__(self):
        if self.to_start:
            for node in self.nodes:
                node.start()
            self.wait_ready()
        return self

    def __exit__(self, kind, value, trace):
        for node in self.nodes + self.removed:
            node.kill()
        if kind is not None and kind is not KeyboardInterrupt:
            for node in self.nodes + self.removed:
                if os.path.exists(node.log):
                    print(f"--- {node.log}")
                    print("".join(open(node.log, errors="replace").readlines()[-30:]))
        if "TRILITH_KEEP" not in os.environ:
            shutil.rmtree(self.dir, ignore_errors=True)

    def wait_ready(self, nodes=None, timeout=20):
        for node in nodes or self.nodes:
            wait_for(node.ready, timeout, f"{node.address} to be ready", node)

    def leader(self, timeout=10):
        """The one leader that every running node names."""
        found = []

        def agreed():
            found.clear()
            names = set()
            for node in self.nodes:
                if node.running:
                    try:
                        names.add(node.status()["leader"])
                    except OSError:
                        return False
            found.extend(n for n in self.nodes if names == {n.address} and n.running)
            return len(found) == 1

        wait_for(agreed, timeout, "one leader")
        return found[0]

    def followers(self):
        leader = self.leader()
        return [n for n in self.nodes if n is not leader and n.running]

    def data_group(self, node):
        status = node.request("GET", "/v1/status").json()
        return next(g for g in status["groups"] if g["group"] == 1)

    def wait_equal(self, timeout=30):
        """All running nodes have applied the same index and have equal digests; returns the digest."""
        seen = []

        def equal():
            seen.clear()
            for node in self.nodes:
                if node.running:
                    g = self.data_group(node)
                    seen.append((g["applied"], g["commit"], g["rows"], g["rows_digest"],
                                 g["records_digest"]))
            return len({(s[0], *s[2:]) for s in seen}) == 1 and all(s[0] == s[1] for s in seen)

        try:
            wait_for(equal, timeout, "equal digests")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}") from None
        return seen[0]


def wait_for(condition, timeout, what, node=None):
    deadline = time.monotonic() + timeout
    while True:
        if condition():
            return
        if node is not None and not node.running:
            raise AssertionError(f"{node.address} ended with {node.process.returncode}:\n"
                                 + "\n".join(node.log_text().splitlines()[-10:]))
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.02)
