#!/usr/bin/env python3
"""The log as a chain of blocks: looked at, verified on all nodes, over what retention has deleted;
and one flipped byte named by index, by `trilith inspect` and by the node at its start.

chain.py [--entries N] [--log-retain SIZE] [--within SECONDS]
"""

import argparse
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse

from cluster import Cluster, Fake, program, wait_for


def trilith(*args):
    r = subprocess.run([program("trilith"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return r.returncode, r.stdout, r.stderr


def on(cluster):
    return "-e", ",".join(n.address for n in cluster.nodes if n.running)


def fill(node, entries):
    out = subprocess.check_output([program("trilith-bench"), "--targets", node.address, "--fill", "--keys",
                                   str(entries), "--value-bytes", "256"])
    assert json.loads(out)["ok"] == entries, out


def blocks_are_a_chain(cluster):
    """Pages read from one node, each block naming the hash of the one before, the same on another."""
    a, b, _ = cluster.nodes
    start = a.request("GET", "/v1/log?limit=1").json()["first"]
    previous, index, hashes = None, start, {}
    while index is not None and len(hashes) < 2000:
        page = a.request("GET", f"/v1/log?from={index}&limit=500").json()
        for block in page["blocks"]:
            assert previous in (None, block["previous_hash"]), block
            assert block["index"] == start + len(hashes), block
            previous = hashes[block["index"]] = block["hash"]
        index = page["next"]
    for index in list(hashes)[::97]:
        block = b.request("GET", f"/v1/log?from={index}&limit=1").json()["blocks"][0]
        assert block["hash"] == hashes[index], (index, block)
    a.put("chain/key", "block")
    cluster.wait_equal()
    def is_decided():  # a follower hears so a little later
        newest = a.request("GET", "/v1/log?limit=1").json()["blocks"][0]
        assert newest["operation"]["key"] == "chain/key" and newest["operation"]["value"] == "block", newest
        return newest["status"] == "decided"
    wait_for(is_decided, 5, "the newest block to be decided")
    if start > 1:
        r = a.request("GET", "/v1/log?from=1")
        assert r.status == 410 and r.json()["error"]["code"] == "compacted", r
        assert r.json()["error"]["first"] >= start, r


def verified_everywhere(cluster, within):
    """All chains whole and equal; writes go on meanwhile."""
    stop, latencies = threading.Event(), []

    def write():
        while not stop.is_set():
            began = time.monotonic()
            r = cluster.nodes[0].put("beside", "1")
            latencies.append(time.monotonic() - began)
            assert r.status in (200, 201), r
    writer = threading.Thread(target=write)
    writer.start()
    began = time.monotonic()
    code, out, err = trilith(*on(cluster), "-o", "json", "log", "verify", "--cluster")
    spent = time.monotonic() - began
    stop.set()
    writer.join()
    result = json.loads(out)
    assert code == 0 and result["agree"], (code, out, err)
    counts = [node["result"]["count"] for node in result["nodes"]]
    assert spent <= within, spent
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "verify", "--cluster")
    assert code == 0 and "are whole and agree up to index" in out, out
    latencies.sort()
    print(f"chain: {counts} entries verified on three nodes in {spent:.2f} s; {len(latencies)} writes beside it, "
          f"p99 {latencies[int(len(latencies) * 0.99)] * 1000:.1f} ms", flush=True)


def shown_on_the_command_line(cluster):
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "show", "--limit", "5")
    assert code == 0 and len(out.splitlines()) == 6 and "decided" in out, out
    code, out, _ = trilith(*on(cluster), "-o", "json", "log", "show", "--group", "0", "--from", "1")
    assert code == 0 and json.loads(out)["blocks"][0]["type"] == "genesis", out
    code, out, _ = trilith(*on(cluster), "-o", "json", "log", "show", "--limit", "1500")  # two pages
    page = json.loads(out)
    assert code == 0 and [b["index"] for b in page["blocks"]] == list(range(page["last"] - 1499, page["last"] + 1))
    code, out, _ = trilith(*on(cluster), "-o", "json", "log", "show", "--limit", "1001", "--from", str(page["first"]))
    assert code == 0 and json.loads(out)["next"] == page["first"] + 1001, out[-200:]
    assert trilith(*on(cluster), "log", "nonsense")[0] == 2
    assert trilith(*on(cluster), "log", "show", "--group", "9")[0] == 3
    assert trilith(*on(cluster), "log", "verify", "--group", "9")[0] == 3
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "verify", "--cluster", "--group", "9")
    assert code == 3 and out.count("has no group 9.") == 3 and "does not answer" not in out, (code, out)


def shown_whatever_bytes_a_key_has(cluster):
    """The newest entry, so that the comparison of the nodes asks for its hash."""
    assert cluster.nodes[0].put("nul/%00/%1B%5B2J", b"a\0b").status == 201
    cluster.wait_equal()
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "show", "--limit", "1")
    assert code == 0 and "nul/./.[2J" in out, (code, out)
    code, out, _ = trilith(*on(cluster), "-o", "json", "log", "show", "--limit", "1")
    assert code == 0 and json.loads(out)["blocks"][0]["operation"]["value"] == "a\0b", (code, out)
    cluster.wait_equal()
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "verify", "--cluster")
    assert code == 0 and "are whole and agree up to index" in out, (code, out)


def shown_over_pages_that_are_cut(cluster):
    """A page ends behind four megabytes; those that were asked for come all the same."""
    first = cluster.nodes[0].request("GET", "/v1/log?limit=1").json()["last"] + 1
    for number in range(6):
        assert cluster.nodes[0].put(f"large/{number}", b"x" * (1 << 20)).status == 201
    cluster.wait_equal()                  # it shows its own log, which may lack the newest
    wanted = [str(first + i) for i in range(6)]
    code, out, _ = trilith("-e", cluster.nodes[0].address, "-o", "table", "log", "show", "--limit", "6")
    lines = [line.split()[0] for line in out.splitlines()]
    assert code == 0 and [i for i in lines if i != "INDEX"] == wanted and len(lines) > 7, (code, out)
    code, out, _ = trilith("-e", cluster.nodes[0].address, "-o", "json", "log", "show", "--limit", "6")
    assert code == 0 and [str(b["index"]) for b in json.loads(out)["blocks"]] == wanted, (code, out)


def a_flipped_byte_is_named(cluster):
    """In the middle of a stopped node's log."""
    victim = cluster.nodes[2]
    marker = b"flipped-by-the-test"
    index = None
    for number in range(300):
        assert cluster.nodes[0].put(f"around/{number}", marker + b"%d;" % number).status == 201
        if number == 150:
            index = cluster.leader().request("GET", "/v1/log?limit=1").json()["last"]
    wait_for(lambda: victim.status()["last_applied"] >= index + 149, 10, "the follower to have it")
    code, _, err = trilith("inspect", victim.dir)
    assert code == 3 and "in use" in err, (code, err)
    victim.kill()
    code, out, err = trilith("-o", "json", "inspect", victim.dir)
    report = json.loads(out)
    assert code == 0 and report["ok"] and report["address"] == victim.address, (out, err)
    group = report["groups"][1]
    assert group["last"] >= index and group["table"]["index"] <= group["last"], group

    path = os.path.join(victim.dir, "log", "data.mdb")
    with open(path, "r+b") as file:
        data = file.read()
        places = [m.start() for m in re.finditer(marker + b"150;", data)]
        assert places, "the value is not in the log"
        for at in places:  # LMDB may have left an older copy of the page
            file.seek(at + 3)
            file.write(bytes([data[at + 3] ^ 1]))
    code, out, err = trilith("inspect", victim.dir)
    assert code == 1, (code, out, err)
    assert f"group 1 index {index}: " in out and "DAMAGED" in err, (out, err)
    damage = json.loads(trilith("-o", "json", "inspect", victim.dir)[1])["damage"]
    assert [(d["group"], d["index"]) for d in damage] == [(1, index)], damage

    logged = len(victim.log_text())
    victim.start()
    assert victim.wait() == 4
    named = rf"event=(start|storage)_failed .*data.mdb.* group=1 index={index} "
    assert re.search(named, victim.log_text()[logged:])
    code, out, _ = trilith(*on(cluster), "-o", "table", "log", "verify", "--cluster")
    assert code == 5 and f"{victim.address} does not answer" in out, (code, out)


def a_differing_node_is_named():
    """Nodes that answer as if one had other entries from an index on: no real cluster gets there."""
    first, last, differs_from = 1000, 9000, 4321

    def answer(node, _, path, __):
        url = urllib.parse.urlparse(path)
        own_last = last + node.extra
        head = {"group": 1, "first": first, "last": own_last, "commit": own_last}

        def hash_of(index):
            return "%032x" % (index + (10**6 if node.is_wrong and index >= differs_from else 0))
        if url.path == "/v1/log":
            index = int(urllib.parse.parse_qs(url.query)["from"][0])
            return {**head, "blocks": [{"index": index, "hash": hash_of(index)}], "next": None}
        if url.path == "/v1/log/verify":
            time.sleep(node.delay)
        return {"/v1/status": {}, "/v1/cluster": {"members": [{"address": n.address} for n in nodes]},
                "/v1/log/verify": {**head, "count": own_last - first + 1, "hash": hash_of(own_last), "ok": True}}[url.path]

    nodes = [Fake(answer) for _ in range(3)]
    addresses = [n.address for n in nodes]
    for number, node in enumerate(nodes):
        node.is_wrong, node.extra, node.delay = number == 1, number, 0
    code, out, _ = trilith("-e", addresses[0], "-o", "table", "log", "verify", "--cluster")
    assert code == 1, (code, out)
    assert f"{addresses[1]} differs from the others from index {differs_from} on." in out, out
    result = json.loads(trilith("-e", addresses[0], "-o", "json", "log", "verify", "--cluster")[1])
    assert [n["differs_from"] for n in result["nodes"]] == [None, differs_from, None], result
    assert not result["agree"] and (result["common_first"], result["common_last"]) == (first, last), result
    assert sum(len(n.asked) for n in nodes) < 100, "found by bisection"
    for node in nodes:                    # a long log: no answer for most of the time there is
        node.delay = 2
    code, out, err = trilith("-e", ",".join(addresses), "--timeout", "3", "log", "verify")
    assert code == 0 and json.loads(out)["last"] == last, (code, out, err)
    for node in nodes:
        node.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=3000)
    parser.add_argument("--log-retain", default="1MiB")
    parser.add_argument("--within", type=float, default=30.0)
    args = parser.parse_args()
    a_differing_node_is_named()
    with Cluster(3, options=["--log-retain", args.log_retain]) as cluster:
        fill(cluster.leader(), args.entries)
        for part in (blocks_are_a_chain, lambda c: verified_everywhere(c, args.within), shown_on_the_command_line,
                     shown_whatever_bytes_a_key_has, shown_over_pages_that_are_cut, a_flipped_byte_is_named):
            part(cluster)
    print("chain: ok")


if __name__ == "__main__":
    main()
