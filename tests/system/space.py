#!/usr/bin/env python3
"""Room for new data: what a full disk, or a table at its --map-size, stops, and what goes on.

space.py [--only PART] [--old TRILITHD]

map    three nodes are filled to --map-size: 507 map_full, reads and deletions go on, also after all were killed
       and started again, and deletions make room
old    (with --old) a node of the older version fills its map and ends; this version opens its directory
disk   (root: loop devices) file systems of one node each are filled: the leader hands over and no write fails; when
       all are nearly full, 507 disk_full, reads and deletions; then room again, and a node that is really full
options  ranges: what cannot work is refused with 2
"""

import argparse
import os
import resource
import subprocess
import time

from cluster import Cluster, program, wait_for

MIB = 1024 * 1024
VALUE = os.urandom(MIB // 2)


def fill(cluster, code, limit):
    """Writes new values until it is refused; returns how many there are."""
    for number in range(limit):
        answer = cluster.nodes[number % len(cluster.nodes)].put(f"big{number}", VALUE)
        if answer.status == 507:
            error = answer.json()["error"]
            assert error["code"] == code, error
            assert error["outcome"] == "not_executed", error
            return number, error
        assert answer.status in (200, 201), answer
    raise AssertionError(f"{limit} values were taken")


def expect_refused(cluster, code):
    for node in cluster.nodes:
        answer = node.put("new", VALUE)
        assert answer.status == 507 and answer.json()["error"]["code"] == code, answer
        assert node.get("big0").body == VALUE
        body = '{"then":[{"op":"delete","key":"absent"}]}'
        answer = node.request("POST", "/v1/txn", body=body)
        assert answer.status == 200, answer


def expect_told(node, code):
    """That the node itself has no room."""
    assert node.ready()
    assert b"no room for new data" in node.request("GET", "/readyz").body
    verbose = node.request("GET", "/readyz?verbose").json()
    assert verbose["ready"] and verbose["room"] == code and "can_lose" in verbose, verbose
    assert node.request("GET", "/v1/status").json()["disk"]["room"] == code
    assert node.metrics()["trilith_has_room"] == 0


def await_writes(cluster, timeout=15):
    wait_for(lambda: all(n.put("again", "x").status in (200, 201) for n in cluster.nodes), timeout,
             "writes to go on")


def status_text(cluster):
    return subprocess.run([program("trilith"), "-e", cluster.nodes[0].address, "-o", "table", "status"],
                          capture_output=True, text=True, check=False).stdout


def map_limit():
    with Cluster(3, options=["--map-size", "64MiB"]) as cluster:
        count, error = fill(cluster, "map_full", 600)
        assert "--map-size" in error["message"], error
        assert count > 100, count
        wait_for(lambda: all(b"no room" in n.request("GET", "/readyz").body for n in cluster.nodes), 15,
                 "all to have no room")
        for node in cluster.nodes:
            expect_told(node, "map_full")
        expect_refused(cluster, "map_full")
        assert cluster.leader().metrics()["trilith_can_lose"] < 0
        text = status_text(cluster)
        assert "Too few voters have room" in text and "--map-size" in text, text
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        expect_refused(cluster, "map_full")
        for number in range(1, count):
            assert cluster.nodes[number % 3].request("DELETE", f"/v1/kv/big{number}").status == 200
        await_writes(cluster)
        cluster.wait_equal()
        assert all(n.running for n in cluster.nodes)
    print(f"space: --map-size reached with {count} values: refused, read, deleted, started again, and room again")


def old_directory(old):
    with Cluster(1, options=["--map-size", "64MiB"], start=False) as cluster:
        node = cluster.nodes[0]
        command = [old, "--address", node.address, "--data-dir", node.dir, "--map-size", "64MiB"]

        def run_old():
            with open(node.log, "ab") as log:
                node.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)

        run_old()
        wait_for(node.ready, 20, "the older node", node)
        number = 0
        try:
            while number < 600:
                if node.put(f"big{number}", VALUE).status not in (200, 201):
                    break
                number += 1
        except OSError:
            pass
        assert node.wait() == 4, "the older version has not ended"
        run_old()
        assert node.wait() == 4, "the older version starts again"
        node.start()
        cluster.wait_ready()
        wait_for(lambda: b"no room" in node.request("GET", "/readyz").body, 15, "what the log holds to be flushed", node)
        expect_refused(cluster, "map_full")
        for i in range(1, number):
            assert node.request("DELETE", f"/v1/kv/big{i}").status == 200
        await_writes(cluster)
    print(f"space: the directory of an older version that ended with a full map ({number} values) is opened and served")


class Image:
    """An ext4 of its own on a loop device."""

    def __init__(self, base, number, size):
        self.file, self.dir = os.path.join(base, f"image{number}"), os.path.join(base, f"disk{number}")
        self.ballast = os.path.join(self.dir, "ballast")
        with open(self.file, "wb") as f:
            f.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.file], check=True)
        os.mkdir(self.dir)
        subprocess.run(["mount", "-o", "loop", self.file, self.dir], check=True)

    def free(self):
        status = os.statvfs(self.dir)
        return status.f_bavail * status.f_frsize

    def leave(self, free):
        """Takes so much that this is left."""
        with open(self.ballast, "ab") as f:
            size = f.tell() + self.free() - free
            os.posix_fallocate(f.fileno(), 0, size)

    def fill_up(self):
        with open(self.ballast, "ab") as f:
            try:
                while True:
                    f.write(bytes(MIB))
                    f.flush()
            except OSError:
                pass

    def release(self):
        os.unlink(self.ballast)

    def close(self):
        for _ in range(50):
            if subprocess.run(["umount", self.dir], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.dir} is busy")


def leader_full(cluster, images):
    leader = cluster.leader()
    image = images[cluster.nodes.index(leader)]
    other = next(n for n in cluster.nodes if n is not leader)
    refused, began, moved = 0, time.monotonic(), None
    image.leave(100 * MIB)
    number = 0
    while time.monotonic() - began < 4:
        answer = other.put(f"small{number % 100}", "x")
        refused += answer.status == 507
        assert answer.status in (200, 201, 507), answer
        if moved is None and other.status()["leader"] not in (leader.address, None):
            moved = time.monotonic() - began
        number += 1
    assert moved is not None and moved < 2, moved
    assert refused == 0, f"{refused} of {number} writes were refused"
    expect_told(leader, "disk_full")
    now = cluster.leader()
    body = f'{{"group":1,"address":"{leader.address}"}}'
    for node in (now, leader):
        answer = node.request("POST", "/v1/cluster/leader", body=body)
        assert answer.status == 409 and answer.json()["error"]["code"] == "no_space", answer
    members = now.request("GET", "/v1/cluster").json()
    rooms = {m["address"]: m["room"] for m in members["members"]}
    assert rooms[leader.address] == "disk_full" and list(rooms.values()).count("ok") == 2, rooms
    assert members["can_lose"] == 0, members
    text = status_text(cluster)
    assert f"{leader.address} has no room for new data" in text, text
    image.release()
    wait_for(lambda: now.request("GET", "/v1/cluster").json()["can_lose"] == 1, 5, "room to be told")
    print(f"space: the leader's disk is nearly full: another one leads after {moved:.2f} s, {number} writes, none refused")


def all_full(cluster, images):
    for image in images:
        image.leave(100 * MIB)
    time.sleep(2.5)     # each looks once a second; until the others have told it, leadership may move
    leader = cluster.leader()
    expect_refused(cluster, "disk_full")
    assert cluster.leader().metrics()["trilith_can_lose"] < 0
    for number in range(20):
        assert cluster.nodes[number % 3].request("DELETE", f"/v1/kv/small{number}").status == 200
    assert cluster.leader().address == leader.address, "leadership moved to where there is no room either"
    for node in cluster.nodes:
        expect_told(node, "disk_full")
    for image in images:
        image.release()
    began = time.monotonic()
    await_writes(cluster, 5)
    print(f"space: all disks are nearly full: refused, read and deleted; writes go on {time.monotonic() - began:.2f} s "
          "after there is room")


def really_full(cluster, images):
    """A follower whose disk has no block left ends with 4, says why, and starts again when there is some."""
    follower = cluster.followers()[0]
    image = images[cluster.nodes.index(follower)]
    image.fill_up()
    leader = cluster.leader()
    deadline = time.monotonic() + 30
    number = 0
    while follower.running and time.monotonic() < deadline:
        assert leader.put(f"more{number}", VALUE).status in (200, 201)
        number += 1
    assert follower.wait() == 4
    text = follower.log_text()
    assert "No space left" in text or "no free block left" in text, text[-2000:]
    image.release()
    follower.start()
    cluster.wait_ready([follower])
    cluster.wait_equal()
    print(f"space: a follower without a free block ends after {number} values, says so, and comes back")


def disks():
    if os.geteuid() != 0:
        print("space: loop devices need root: skipped")
        return
    with Cluster(3, start=False) as cluster:
        images = []
        try:
            try:
                for number, node in enumerate(cluster.nodes):
                    images.append(Image(cluster.dir, number, 900 * MIB))
                    node.dir = os.path.join(images[-1].dir, "data")
            except subprocess.CalledProcessError as error:
                print(f"space: no loop devices here ({error}): skipped")
                return
            for node in cluster.nodes:
                node.start()
            cluster.wait_ready()
            assert cluster.leader().put("big0", VALUE).status == 201
            leader_full(cluster, images)
            all_full(cluster, images)
            really_full(cluster, images)
        finally:
            for node in cluster.nodes:
                node.kill()
            for image in images:
                image.close()


def options():
    def refused(arguments, word, limit=None):
        def set_limit():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        done = subprocess.run([program("trilithd"), "--address", "127.0.0.1:1", "--data-dir", "/nonexistent/x",
                               *arguments], capture_output=True, text=True, check=False, preexec_fn=set_limit)
        assert done.returncode == 2 and word in done.stderr, (arguments, done)

    refused(["--map-size", "43TiB"], "--map-size")
    refused(["--map-size", "17TiB"], "--map-size")
    refused(["--map-size", "100GiB"], "--map-size", limit=1 << 38)
    refused(["--map-size", "64MiB", "--idempotency-records", "1000000"], "--idempotency-records")
    refused(["--peer-listen", "127.0.0.1:1"], "--peer-listen")
    with Cluster(1, options=["--map-size", "16TiB"]) as cluster:
        assert cluster.nodes[0].put("k", "v").status == 201
    print("space: --map-size of 16TiB starts, and what could not is refused with 2")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--old", help="trilithd of an older version, for its directories")
    parser.add_argument("--only", choices=["options", "map", "old", "disk"])
    args = parser.parse_args()
    if args.only in (None, "options"):
        options()
    if args.only in (None, "map"):
        map_limit()
    if args.only in (None, "old") and args.old:
        old_directory(args.old)
    if args.only in (None, "disk"):
        disks()


if __name__ == "__main__":
    main()
