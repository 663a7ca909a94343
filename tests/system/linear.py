#!/usr/bin/env python3
"""Whether what several clients saw of the keys they share is linearizable, and clients that share keys.

No search: every answer names its place. A write has a revision (ETag), one more than that of the write
before it in the whole data group; whatever reads, or changes nothing, says at which revision of the group
it looked (Trilith-Revision), and which revision of the key it found. So the order is told, and judge()
checks that it is one:

  - a revision is one write's; a value is found at one revision; somebody wrote it, and was not refused;
  - real time: what began after another had ended stands behind it (a write), or not before it (a read);
  - a read finds the newest write of its key that stands at or before it; a write with If-Match follows
    directly on that revision;
  - a write whose outcome is not known takes place where it is first seen, behind what had ended when it
    began; if it is never seen it may have happened or not. A delete is never seen: what is absent without
    a known delete needs one of unknown outcome, of its own.

Run by itself: judges good and bad histories.
"""

import json
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace

import load
from cluster import wait_for
from load import NOT_SENT, Caller

KEYS = ("shared/a", "shared/b", "shared/c")
NEVER = float("inf")


@dataclass
class Operation:
    kind: str                   # get, put, delete
    key: str
    begun: float                # time.monotonic()
    ended: float = NEVER        # never: no answer, or one that says nothing
    outcome: str = "unknown"    # done, unmet (412, or nothing to delete), refused (not executed), unknown
    value: str = None           # that a put writes, or a get found; None: nothing
    match: int = None           # a put's If-Match
    revision: int = 0           # of the key: that this wrote, or found; 0: absent
    state: int = 0              # the group's revision at which this stands

    def __str__(self):
        what = f"{self.kind} {self.key} {self.value or ''} {self.outcome}"
        return f"[{what} revision {self.revision} at {self.state}, {self.begun:.6f} to {self.ended:.6f}]"

    @property
    def is_write(self):
        return self.kind != "get" and self.outcome != "unmet"

    @property
    def looked(self):
        """Whether this tells what was there, and changed nothing."""
        return self.outcome == "unmet" or (self.kind == "get" and self.outcome == "done")


# ---- the checker ----

class Judge:
    def __init__(self, operations):
        self.wrong = []
        # Unknown writes are given their place: on copies, what happened stays as it was.
        self.operations = [replace(o) for o in operations if o.outcome != "refused"]
        self.refused = {o.value for o in operations if o.kind == "put" and o.outcome == "refused"}
        self.by_revision = {}
        self.by_key = defaultdict(list)     # writes with a place, by revision

    def judge(self):
        self.place_known()
        self.place_seen()
        for write in sorted(self.by_revision.values(), key=lambda o: o.revision):
            self.by_key[write.key].append(write)
        self.find_floors()
        self.check_time()
        for operation in self.operations:
            if operation.looked:
                self.check_look(operation)
            elif operation.revision and operation.match is not None:
                self.check_condition(operation)
        self.check_absences()
        return self.wrong

    def place(self, write, revision):
        other = self.by_revision.setdefault(revision, write)
        if other is not write:
            self.wrong.append(f"one revision, two writes: {other} {write}")
        write.revision = write.state = revision

    def place_known(self):
        for o in self.operations:
            if o.is_write and o.outcome == "done":
                self.place(o, o.revision)

    def place_seen(self):
        writers = {o.value: o for o in self.operations if o.kind == "put"}
        for o in self.operations:
            if o.kind != "get" or o.value is None:
                continue
            write = writers.get(o.value)
            if o.value in self.refused or (write and not write.is_write):
                self.wrong.append(f"found what was refused: {o}")
            elif write is None or write.key != o.key:
                self.wrong.append(f"found what nobody wrote: {o}")
            elif write.revision == 0:
                self.place(write, o.revision)
            elif write.revision != o.revision:
                self.wrong.append(f"found at another revision than it was written: {o} {write}")

    def find_floors(self):
        """The newest state that had been answered when each operation began."""
        self.floors = {}
        ends = iter(sorted((o for o in self.operations if o.ended != NEVER), key=lambda o: o.ended))
        end, floor = next(ends, None), 0
        for o in sorted(self.operations, key=lambda o: o.begun):
            while end and end.ended < o.begun:
                floor = max(floor, end.state)
                end = next(ends, None)
            self.floors[id(o)] = floor

    def check_time(self):
        for o in self.operations:
            floor = self.floors[id(o)]
            if o.state and o.state < floor + o.is_write:
                self.wrong.append(f"stands before what had ended, at {floor}: {o}")

    def newest(self, key, revision):
        """The newest write of the key with a place that is not behind this revision, or None."""
        writes = self.by_key[key]
        at = bisect_right(writes, revision, key=lambda o: o.revision)
        return writes[at - 1] if at else None

    def check_look(self, o):
        last = self.newest(o.key, o.state)
        if o.revision > o.state:
            self.wrong.append(f"found what was written later: {o}")
        elif o.revision and last and last.revision > o.revision:
            self.wrong.append(f"did not find what was written before: {o} {last}")
        elif o.revision and last and last.revision == o.revision and last.kind == "delete":
            self.wrong.append(f"found what was deleted: {o} {last}")
        if o.match is not None and o.match == o.revision:
            self.wrong.append(f"refused though its condition held: {o}")

    def check_condition(self, o):
        last = self.newest(o.key, o.revision - 1)
        is_behind = last is None or last.revision <= o.match
        if o.match >= o.revision or not is_behind or (last and last.revision == o.match
                                                      and last.kind == "delete"):
            self.wrong.append(f"does not follow on If-Match {o.match}: {o} {last}")

    def check_absences(self):
        """Each put that was found to be gone, without a known delete, needs a delete of its own that
        may have happened between the two. Such deletes have no latest moment, so it is enough to count
        them: those that began before the n-th of these moments are at least n."""
        gone_at = {}            # the put -> the earliest state without it
        for o in self.operations:
            last = self.newest(o.key, o.state) if o.looked and o.revision == 0 else None
            if last and last.kind == "put":
                gone_at[last.revision] = min(o.state, gone_at.get(last.revision, o.state))
        for key in self.by_key:
            deletes = sorted(self.floors[id(o)] for o in self.operations
                             if o.key == key and o.kind == "delete" and o.outcome == "unknown")
            gone = sorted((at, r) for r, at in gone_at.items() if self.by_revision[r].key == key)
            for count, (at, revision) in enumerate(gone, 1):
                if at <= revision or sum(floor < at for floor in deletes) < count:
                    self.wrong.append(f"gone at {at}, and nobody deleted it: {self.by_revision[revision]}")
                    break


def judge(operations):
    """What is wrong with the history, in sentences."""
    return Judge(operations).judge()


# ---- clients ----

class History:
    def __init__(self):
        self.operations, self.lock = [], threading.Lock()

    def add(self, operation):
        with self.lock:
            self.operations.append(operation)

    def finish(self, operation, answer):
        """Reads from the answer what became of the operation."""
        ended = time.monotonic()
        if answer is NOT_SENT:
            operation.outcome = "refused"
        elif answer.status in (200, 201, 404, 412):
            operation.ended = ended
            operation.state = int(answer.headers["Trilith-Revision"])
            tag = answer.headers.get("ETag") if operation.kind != "delete" else None
            operation.revision = int(tag.strip('"')) if tag else 0
            operation.outcome = "done"
            if answer.status == 200 and operation.kind == "get":
                operation.value = answer.body.decode()
            elif answer.status == 200 and operation.kind == "delete":
                operation.revision = answer.json()["revision"]
            elif operation.kind != "get" and answer.status in (404, 412):
                operation.outcome = "unmet"
        elif answer.status is not None:
            operation.outcome = outcome_of(answer)


def outcome_of(answer):
    try:
        return "refused" if answer.json()["error"]["outcome"] == "not_executed" else "unknown"
    except (ValueError, KeyError, TypeError):
        return "unknown"


class Sharer(Caller):
    """Puts, deletes and reads a few keys that all of them share."""

    def __init__(self, cluster, number, seed, history):
        super().__init__(cluster, 100 + number, seed)
        self.history, self.values = history, 0

    def do(self, kind, key, match=None):
        operation = Operation(kind, key, time.monotonic(), match=match)
        method, body, headers = kind.upper(), None, {}
        if kind == "put":
            self.values += 1
            operation.value = body = f"{self.number}.{self.values}"
        if match is not None:
            headers["If-Match"] = f'"{match}"'
        self.history.add(operation)
        self.history.finish(operation, self.request(method, f"/v1/kv/{key}", body, headers))
        return operation

    def run(self):
        while not self.stop_now.is_set():
            self.operations += 1
            if self.random.random() < 0.3:
                self.hang_up()      # goes on with another node, which must know what this one said
            key = self.random.choice(KEYS)
            kind = self.random.choices(("get", "put", "swap", "delete"), (40, 25, 25, 10))[0]
            if kind != "swap":
                self.do(kind, key)
                continue
            found = self.do("get", key)
            if found.revision:
                self.do("put", key, match=found.revision)


class Load(load.Load):
    """The clients of load.py, and some that share keys, whose history is judged."""

    def __init__(self, cluster, clients=8, sharers=4, seed=1):
        super().__init__(cluster, clients, seed)
        self.history = History()
        self.sharers = [Sharer(cluster, i, seed, self.history) for i in range(sharers)]

    def __enter__(self):
        for sharer in self.sharers:
            sharer.start()
        return super().__enter__()

    def stop(self):
        for sharer in self.sharers:
            sharer.stop_now.set()
        super().stop()
        for sharer in self.sharers:
            sharer.join(30)

    def check(self):
        """After the storm: once more through every node, then the verdict."""
        super().check()
        for node in self.cluster.nodes:
            for key in KEYS:
                wait_for(lambda: self.is_read(node, key), 20, f"{node.address} to answer")
        wrong = judge(self.history.operations)
        assert not wrong, "\n".join(wrong[:20])

    def is_read(self, node, key):
        operation = Operation("get", key, time.monotonic())
        self.history.finish(operation, node.get(key))
        if operation.ended != NEVER:
            self.history.add(operation)
        return operation.ended != NEVER

    def judged(self):
        """What was judged, for the line a test prints."""
        counts = defaultdict(int)
        for o in self.history.operations:
            counts[o.outcome] += 1
        return (f"{len(self.history.operations)} operations on {len(KEYS)} shared keys linearizable "
                f"({counts['unmet']} unmet, {counts['refused']} refused, {counts['unknown']} unknown)")


# ---- good and bad histories ----

def put(value, times, revision=0, **more):
    more = {"outcome": "done" if revision else "unknown", "state": revision, **more}
    ended = times[1] if more["outcome"] != "unknown" else NEVER
    return Operation("put", "k", times[0], ended, value=value, revision=revision, **more)


def delete(times, revision=0, **more):
    return replace(put(None, times, revision, **more), kind="delete")


def get(value, times, revision, state, **more):
    return Operation("get", "k", *times, outcome="done", value=value, revision=revision, state=state, **more)


GOOD = {
    "nothing": [],
    "one after the other": [get(None, (0, 1), 0, 1), put("a", (2, 3), 2), get("a", (4, 5), 2, 2),
                            delete((6, 7), 3), get(None, (8, 9), 0, 3)],
    "side by side, in either order": [put("a", (0, 9), 3), put("b", (0, 9), 2), get("b", (1, 8), 2, 2),
                                      get("a", (1, 8), 3, 3), get(None, (0, 9), 0, 1)],
    "other keys move the state": [put("a", (0, 1), 2), get("a", (2, 3), 2, 70), put("b", (4, 5), 71)],
    "an unknown put that is seen late": [put("a", (0, 1)), put("b", (2, 3), 2), get("b", (4, 5), 2, 2),
                                         get("a", (6, 7), 3, 3), get("a", (8, 9), 3, 3)],
    "an unknown put that is never seen": [put("a", (0, 1)), get(None, (2, 3), 0, 1), get(None, (4, 5), 0, 2)],
    "an unknown delete that is seen": [put("a", (0, 1), 2), delete((2, 3)), get("a", (4, 5), 2, 2),
                                       get(None, (6, 7), 0, 3)],
    "a condition that holds, one that does not": [put("a", (0, 1), 2), put("b", (2, 3), 3, match=2),
                                                  put("c", (4, 5), 3, match=2, outcome="unmet")],
    "a condition on what nobody has seen": [put("a", (0, 1)), put("b", (2, 3), 5, match=4)],
    "refused and not seen": [put("a", (0, 1), outcome="refused"), get(None, (2, 3), 0, 1)],
}

BAD = {
    "two writes": [put("a", (0, 1), 2), put("b", (0, 1), 2)],
    "what was refused": [put("a", (0, 1), outcome="refused"), get("a", (2, 3), 2, 2)],
    "found what was refused": [put("a", (0, 1), 2), put("b", (2, 3), 2, match=9, outcome="unmet"),
                               get("b", (4, 5), 3, 3)],
    "nobody wrote": [get("a", (0, 1), 2, 2)],
    "found what nobody wrote": [replace(put("a", (0, 1), 2), key="other"), get("a", (2, 3), 2, 2)],
    "at another revision": [put("a", (0, 1), 2), get("a", (2, 3), 3, 3)],
    "another revision than it": [put("a", (0, 1)), get("a", (2, 3), 2, 2), get("a", (4, 5), 4, 4)],
    "had ended, at 3": [put("a", (0, 1), 3), put("b", (2, 3), 2)],
    "stands before": [put("a", (0, 1), 2), put("b", (0, 1), 3), get("b", (2, 3), 3, 3),
                      get("a", (4, 5), 2, 2)],
    "stands before what had ended": [put("a", (0, 1), 5), put("b", (2, 3)), get("b", (0, 4), 4, 4)],
    "ended, at 2": [get("a", (0, 1), 2, 2), put("a", (2, 3), 2)],
    "written later": [put("a", (0, 9), 3), get("a", (0, 9), 3, 2)],
    "did not find": [put("a", (0, 1), 2), put("b", (0, 1), 3), get("a", (0, 1), 2, 3)],
    "not find what was written": [put("a", (0, 1), 2), delete((0, 1), 3), get("a", (2, 3), 2, 3)],
    "what was deleted": [put("x", (0, 1), 2), delete((0, 1), 3),
                         put("b", (2, 3), 3, match=2, outcome="unmet")],
    "condition held": [put("a", (0, 1), 2), put("b", (2, 3), 2, match=2, outcome="unmet")],
    "does not follow": [put("a", (0, 1), 2), put("b", (0, 1), 3), put("c", (0, 1), 4, match=2)],
    "does not follow on": [put("a", (0, 1), 2), put("b", (2, 3), match=2), put("c", (2, 3), 3),
                           get("b", (4, 5), 4, 4)],
    "follow on If-Match 3": [put("a", (0, 1), 2), delete((0, 1), 3), put("c", (2, 3), 4, match=3)],
    "follow on If-Match 5": [put("c", (2, 3), 4, match=5)],
    "nobody deleted": [put("a", (0, 1), 2), get(None, (2, 3), 0, 2)],
    "nobody deleted it": [put("a", (0, 1), 2), get(None, (2, 3), 0, 3), delete((4, 5))],
    "gone at": [put("a", (0, 1), 2), delete((2, 3)), get(None, (4, 5), 0, 3), put("b", (6, 7), 4),
                get(None, (8, 9), 0, 5)],
    "gone at 2": [put("a", (0, 1), 2), delete((0, 1)), get(None, (2, 3), 0, 2)],
}


def main():
    for name, history in GOOD.items():
        wrong = judge(history)
        assert not wrong, (name, wrong)
    for part, history in BAD.items():
        wrong = judge(history)
        assert len(wrong) == 1 and part in wrong[0], (part, wrong)
    print(f"linear: {len(GOOD)} good histories pass, each of {len(BAD)} bad ones fails as it should")


if __name__ == "__main__":
    main()
