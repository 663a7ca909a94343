"""Clients that write while nodes die, and remember enough to say afterwards what was lost.

Each client owns a set of keys, so that its own record of what was acknowledged is the truth:
  register/<client>/<i>   puts of rising numbers, without Idempotency-Key
  list/<client>           keyed appends of unique tokens, repeated under the same key until definite
"""

import http.client
import random
import threading
import time

from cluster import Answer

REGISTERS = 5
NO_ANSWER = Answer(None, {}, b"")
NOT_SENT = Answer(None, {}, b"")


class Caller(threading.Thread):
    """A client of the cluster: one node after the other, another one whenever something fails."""

    def __init__(self, cluster, number, seed):
        super().__init__(daemon=True)
        self.cluster, self.number = cluster, number
        self.random = random.Random(seed * 1000 + number)
        self.stop_now = threading.Event()
        self.operations = self.failures = 0
        self.connection = None

    def request(self, method, path, body, headers):
        """The answer, NO_ANSWER, or NOT_SENT when nothing has left this machine."""
        try:
            if self.connection is None:
                node = self.random.choice(list(self.cluster.nodes))
                self.connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=8)
                self.connection.connect()
        except OSError:
            self.fail()
            return NOT_SENT
        try:
            self.connection.request(method, path, body=body, headers=headers)
            r = self.connection.getresponse()
            answer = Answer(r.status, r.headers, r.read())
            if r.status >= 500 or r.status == 429:
                self.fail()
            return answer
        except (OSError, http.client.HTTPException):
            self.fail()
            return NO_ANSWER

    def fail(self):
        self.hang_up()
        self.failures += 1
        time.sleep(0.02)

    def hang_up(self):
        if self.connection:
            self.connection.close()
        self.connection = None


class Client(Caller):
    def __init__(self, cluster, number, seed):
        super().__init__(cluster, number, seed)
        self.may_go, self.idle = threading.Event(), threading.Event()  # idle: it waits for may_go
        self.acked = [0] * REGISTERS      # highest acknowledged number
        self.tried = [0] * REGISTERS      # highest number ever sent
        self.tokens_acked, self.tokens_tried = [], []
        self.wrong = []                   # what must never be
        self.acked_at = time.monotonic()

    def put(self):
        i = self.random.randrange(REGISTERS)
        number = self.tried[i] = self.tried[i] + 1
        answer = self.request("PUT", f"/v1/kv/register/{self.number}/{i}", str(number), {})
        if answer.status in (200, 201):
            self.acked[i] = number
            self.acked_at = time.monotonic()
        elif answer.status is not None and answer.status not in (429, 503, 504):
            self.wrong.append(f"PUT register/{self.number}/{i}: {answer}")

    def append(self):
        token = f"<{self.number}.{len(self.tokens_tried)}>"
        self.tokens_tried.append(token)
        headers = {"Idempotency-Key": f"append-{self.number}-{len(self.tokens_tried)}"}
        while not self.stop_now.is_set():
            answer = self.request("POST", f"/v1/kv/list/{self.number}?op=append", token, headers)
            if answer.status in (200, 201):
                self.tokens_acked.append(token)
                self.acked_at = time.monotonic()
                return
            if answer.status is not None and answer.status not in (429, 503, 504):
                self.wrong.append(f"append list/{self.number}: {answer}")
                return

    def get(self):
        """Nobody else writes these keys: a linearizable read is at least the last acknowledged one."""
        i = self.random.randrange(REGISTERS)
        least = self.acked[i]
        answer = self.request("GET", f"/v1/kv/register/{self.number}/{i}", None, {})
        if answer.status == 200:
            if not least <= int(answer.body) <= self.tried[i]:
                self.wrong.append(f"register/{self.number}/{i}: read {answer.body!r}, acked {least}, "
                                  f"tried {self.tried[i]}")
        elif answer.status == 404 and least > 0:
            self.wrong.append(f"register/{self.number}/{i}: absent, acked {least}")

    def run(self):
        while not self.stop_now.is_set():
            if not self.may_go.is_set():
                self.idle.set()
                self.may_go.wait()
                continue
            self.operations += 1
            # Lists stay below the largest value: one append in ten operations.
            self.random.choices((self.put, self.append, self.get), (5, 1, 4))[0]()

    def check(self, node):
        """After the storm: what is there, read linearizably, against what was acknowledged."""
        for i in range(REGISTERS):
            answer = node.get(f"register/{self.number}/{i}")
            value = int(answer.body) if answer.status == 200 else 0
            if not self.acked[i] <= value <= self.tried[i]:
                self.wrong.append(f"register/{self.number}/{i} at the end: {value}, acked "
                                  f"{self.acked[i]}, tried {self.tried[i]}")
        answer = node.get(f"list/{self.number}")
        text = answer.body.decode() if answer.status == 200 else ""
        for token in self.tokens_tried:
            count = text.count(token)
            if count > 1 or (token in self.tokens_acked and count != 1):
                self.wrong.append(f"list/{self.number}: {token} is there {count} times")
        known = sum(len(t) for t in self.tokens_tried if t in text)
        if known != len(text):
            self.wrong.append(f"list/{self.number}: {len(text) - known} bytes nobody wrote")
        return self.wrong


class Load:
    def __init__(self, cluster, clients=8, seed=1):
        self.cluster = cluster
        self.clients = [Client(cluster, i, seed) for i in range(clients)]

    def __enter__(self):
        self.resume()
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def pause(self):
        """Returns when every client has its answer and waits."""
        for client in self.clients:
            client.idle.clear()
            client.may_go.clear()
        for client in self.clients:
            if not client.idle.wait(30):
                raise AssertionError("a client has had no answer for 30 s")

    def resume(self):
        for client in self.clients:
            client.may_go.set()

    def stop(self):
        for client in self.clients:
            client.stop_now.set()
            client.may_go.set()
        for client in self.clients:
            client.join(30)

    def check(self):
        wrong = [w for c in self.clients for w in c.check(self.cluster.leader())]
        assert not wrong, "\n".join(wrong[:20])

    @property
    def acked(self):
        return sum(sum(c.acked) + len(c.tokens_acked) for c in self.clients)
