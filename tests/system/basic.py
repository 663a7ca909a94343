#!/usr/bin/env python3
"""The quick system test of `make check`: a first session, restarts, refusals and bad input."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

from urllib.parse import quote

from cluster import Cluster, Fake, free_ports, program, wait_for


def trilith(cluster, *args, text=None):
    endpoints = ",".join(n.address for n in cluster.nodes)
    r = subprocess.run([program("trilith"), "-e", endpoints, *args], input=text,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return r.returncode, r.stdout, r.stderr


def first_session(cluster):
    a, b, c = cluster.nodes
    r = a.put("stone", "granite", {"Content-Type": "text/plain"})
    assert r.status == 201 and r.json()["replaced"] is False, r
    revision = r.json()["revision"]
    for node in (b, c):
        r = node.get("stone")
        assert (r.status, r.body, r.revision) == (200, b"granite", revision), r
        assert r.headers["Content-Type"] == "text/plain"
    r = b.put("stone", "slate", {"If-Match": f'"{revision}"'})
    assert r.status == 200 and r.json()["version"] == 2, r
    r = c.put("stone", "chalk", {"If-Match": f'"{revision}"'})
    assert r.status == 412, r
    assert c.put("stone", "chalk", {"If-None-Match": "*"}).status == 412
    assert c.request("DELETE", "/v1/kv/stone").json()["deleted"] is True
    assert a.get("stone").status == 404 and a.request("DELETE", "/v1/kv/stone").status == 404
    for n, expected in ((1, 1), (41, 42), (-2, 40)):
        r = b.request("POST", f"/v1/kv/counter?op=incr&by={n}")
        assert r.status == 200 and r.json()["value"] == expected, r
    assert a.put("text", "no number").status == 201
    assert c.request("POST", "/v1/kv/text?op=incr").status == 409
    assert c.request("POST", "/v1/kv/log?op=append", body="one").status == 201
    assert b.request("POST", "/v1/kv/log?op=append", body=" two").status == 200
    assert a.get("log").body == b"one two"


def idempotency(cluster):
    a, b, _ = cluster.nodes
    key = {"Idempotency-Key": "once"}
    first = a.request("POST", "/v1/kv/once?op=append", body="x", headers=key)
    again = b.request("POST", "/v1/kv/once?op=append", body="x", headers=key)
    assert (first.status, again.status) == (201, 201), (first, again)
    assert again.headers["Trilith-Replayed"] == "true" and again.revision == first.revision
    assert a.get("once").body == b"x"
    other = a.request("POST", "/v1/kv/once?op=append", body="y", headers=key)
    assert other.status == 409 and other.json()["error"]["code"] == "idempotency_key_reused", other
    missing = {"Idempotency-Key": "gone"}
    assert a.request("DELETE", "/v1/kv/nothing", headers=missing).status == 404
    assert a.put("nothing", "now there").status == 201
    r = b.request("DELETE", "/v1/kv/nothing", headers=missing)
    assert r.status == 404 and r.headers["Trilith-Replayed"] == "true", r
    assert a.get("nothing").status == 200


def followers_serve_linearizable_reads(cluster):
    for node in cluster.nodes:
        name = next(k for k in node.metrics() if "reads" in k and "linearizable" in k)
        before = node.metrics()[name]
        for _ in range(5):
            assert node.get("counter").body == b"40"
        assert node.metrics()[name] >= before + 5, name


def transactions(cluster):
    a, b, c = cluster.nodes

    def txn(node, body, **headers):
        return node.request("POST", "/v1/txn", body=json.dumps(body), headers=headers)

    lock = {"if": [{"key": "lock", "exists": False}],
            "then": [{"op": "put", "key": "lock", "value": "a"}, {"op": "incr", "key": "fence"}],
            "else": [{"op": "get", "key": "lock"}]}
    r = txn(a, lock)
    assert r.status == 200 and r.json()["succeeded"] is True, r
    put, incr = r.json()["results"]
    assert put["revision"] == incr["revision"] == r.json()["revision"] and incr["value"] == 1, r
    r = txn(b, lock)
    assert r.status == 200 and r.json()["succeeded"] is False, r
    assert r.json()["results"] == [{"op": "get", "key": "lock", "exists": True, "value": "a",
                                    "encoding": "utf-8", "revision": put["revision"], "version": 1}]
    for key in ("lock", "fence"):
        assert c.get(key).revision == put["revision"]

    swap = {"if": [{"key": "lock", "revision": put["revision"]}, {"key": "fence", "version": 1},
                   {"key": "lock", "value": "YQ==", "encoding": "base64"}],
            "then": [{"op": "delete", "key": "lock"}, {"op": "append", "key": "trail", "value": "x"},
                     {"op": "put", "key": "j", "value": "[1]", "content_type": "application/json"}]}
    first = txn(c, swap, **{"Idempotency-Key": "swap"})
    again = txn(a, swap, **{"Idempotency-Key": "swap"})
    assert first.status == again.status == 200 and first.body == again.body, (first, again)
    assert again.headers["Trilith-Replayed"] == "true" and a.get("trail").body == b"x"
    assert b.get("j").headers["Content-Type"] == "application/json" and b.get("lock").status == 404
    assert txn(a, {"then": []}, **{"Idempotency-Key": "swap"}).status == 409

    # Nothing of a transaction that fails as a whole.
    r = txn(b, {"then": [{"op": "put", "key": "half", "value": ""}, {"op": "incr", "key": "text"}]})
    assert r.status == 409 and r.json()["error"]["code"] == "not_integer", r
    assert r.json()["error"]["operation"] == 1 and a.get("half").status == 404, r

    ops = [{"op": "put", "key": f"many/{i:03}", "value": "v"} for i in range(128)]
    assert txn(a, {"then": ops}).status == 200
    for body, status in (("{", 400), ("[]", 400), ('{"then":1}', 400), ('{"then":[{}]}', 400),
                         ('{"then":[{"op":"put","key":"a","value":1}]}', 400),
                         ('{"then":[{"op":"get","key":"a"},{"op":"fly","key":"a"}]}', 400),
                         ('{"if":[{"key":"a","revision":"1"}]}', 400),
                         (json.dumps({"then": ops + [{"op": "get", "key": "k"}]}), 400),
                         (json.dumps({"then": ops[:1] * 2}), 400),
                         ('{"then":[{"op":"put","key":"a","value":"@","encoding":"base64"}]}', 400),
                         (json.dumps({"then": [{"op": "put", "key": "a", "value": "x" * (1 << 20)}]}), 413)):
        r = b.request("POST", "/v1/txn", body=body)
        assert r.status == status and r.json()["error"]["outcome"] == "not_executed", (body[:80], r)
    assert a.request("GET", "/v1/txn").status == 405


def scans(cluster):
    a, b, c = cluster.nodes
    keys = [f"many/{i:03}" for i in range(128)]

    def scan(node, query):
        r = node.request("GET", "/v1/kv?" + query)
        assert r.status == 200, (query, r)
        return r.json()

    page = scan(a, "prefix=many/")
    assert [i["key"] for i in page["items"]] == keys[:100] and page["count"] == 100, page
    assert page["next"] == keys[99]
    assert set(page["items"][0]) == {"key", "value", "encoding", "revision", "version"}
    page = scan(b, f"prefix=many/&after={page['next']}")
    assert [i["key"] for i in page["items"]] == keys[100:] and page["next"] is None, page
    page = scan(c, "prefix=many/&reverse=1&limit=3")
    assert [i["key"] for i in page["items"]] == keys[:-4:-1] and page["next"] == keys[-3], page
    page = scan(a, "start=many/010&end=many/012&keys_only=1")
    assert [(i["key"], "value" in i) for i in page["items"]] == [("many/010", False), ("many/011", False)]
    assert scan(b, "prefix=many/&count_only=1") == {"items": [], "next": None, "count": 128}
    everything = scan(b, "count_only=1")["count"]
    assert everything == sum(len(p["items"]) for p in pages(a, "keys_only=1"))
    assert a.request("PUT", "/v1/kv/uneven/%FF%20%2B", body=b"\xfe").status == 201
    item, = scan(c, "prefix=uneven/")["items"]
    assert item["key"] == "dW5ldmVuL/8gKw==" and item["key_encoding"] == "base64", item
    assert item["value"] == "/g==" and item["encoding"] == "base64", item
    assert scan(a, "prefix=uneven/%FF+%2B")["count"] == 1
    r = a.request("GET", "/v1/kv?consistency=local&limit=1")
    assert r.status == 200 and int(r.headers["Trilith-Applied"]) > 0, r
    for query in ("limit=0", "limit=1001", "limit=x", "reverse=2", "size=1", "after=%zz"):
        assert a.request("GET", "/v1/kv?" + query).status == 400, query
    assert a.request("GET", "/v1/kv?prefix=" + "k" * 481).status == 414
    assert a.request("HEAD", "/v1/kv").status == 405


def pages(node, query):
    after = ""
    while after is not None:
        page = node.request("GET", f"/v1/kv?{query}&limit=7{after and '&after=' + quote(after)}").json()
        yield page
        after = page["next"]


def list_family(cluster):
    a, b, _ = cluster.nodes
    js = {"Content-Type": "application/json"}

    def post(body, headers=js):
        r = a.request("POST", "/keys/animals", body=body, headers=headers)
        return r.status, r.body.decode()

    assert b.request("GET", "/keys/animals").status == 404
    assert post('{"type":"APPEND","value":"cat"}') == (204, "")
    assert post('{"type":"APPEND","value":"d\\"og"}') == (204, "")
    r = b.request("GET", "/keys/animals")
    assert r.json() == ["cat", 'd"og'] and r.headers["Content-Type"].startswith("application/json")
    assert post('{"type":"PUT","value":[]}') == (204, "")
    assert b.request("GET", "/keys/animals").body == b"[]"
    assert post('{"type":"APPEND","value":"emu"}')[0] == 204
    assert b.request("GET", "/keys/animals").body == b'["emu"]'
    for body, headers in (('{"type":"PUT","value":[]}', {"Content-Type": "text/plain"}), ("{", js),
                          ("[1]", js)):
        assert post(body, headers) == (400, "The request is not valid")
    assert post('{"value":[]}') == (400, "The request type is not correct")
    assert post('{"type":"DROP","value":[]}') == (400, "The request type is not correct")
    for body in ('{"type":"PUT"}', '{"type":"PUT","value":"x"}', '{"type":"PUT","value":[1]}',
                 '{"type":"APPEND","value":["x"]}'):
        assert post(body) == (400, "The request value is not valid"), body
    assert a.put("plain", "text").status == 201
    r = b.request("GET", "/keys/plain")
    assert (r.status, r.body) == (400, b"")
    assert a.request("POST", "/keys/a%2Fb", body='{"type":"PUT","value":["s"]}', headers=js).status == 204
    assert b.request("GET", "/keys/a/b").json() == ["s"]


def admin_status(cluster):
    def fields(name):
        return [n.status()[name] for n in cluster.nodes]

    leader = cluster.leader()
    cluster.wait_equal()
    before = {name: fields(name) for name in ("log_len", "last_applied", "commit_idx")}
    assert leader.get("counter").status == 200
    assert leader.put("counted", "1").status == 201
    wait_for(lambda: fields("last_applied") == [v + 1 for v in before["last_applied"]], 20, "one more")
    for name, values in before.items():
        assert fields(name) == [v + 1 for v in values], (name, values, fields(name))
    assert sorted(fields("state")) == [0, 0, 2] and len(set(fields("leader"))) == 1
    assert leader.status()["next_node_idx_count"] == 2 == leader.status()["match_idx_count"]
    assert all(n.status()["partner_nodes_count"] == 2 for n in cluster.nodes)


def bad_input(cluster):
    a = cluster.nodes[0]
    for method, path, body, headers, expected in (
            ("PUT", "/v1/kv/", "x", {}, 400),
            ("PUT", "/v1/kv/a%2", "x", {}, 400),
            ("PUT", "/v1/kv/a%zz", "x", {}, 400),
            ("PUT", "/v1/kv/" + "k" * 481, "x", {}, 414),
            ("PUT", "/v1/kv/j", "{", {"Content-Type": "application/json"}, 400),
            ("PUT", "/v1/kv/c", "x", {"If-Match": "abc"}, 400),
            ("PUT", "/v1/kv/c", "x", {"If-None-Match": '"1"'}, 400),
            ("PUT", "/v1/kv/c", "x", {"Idempotency-Key": "k" * 65}, 400),
            ("GET", "/v1/kv/c?consistency=strong", None, {}, 400),
            ("GET", "/v1/kv/c?unknown=1", None, {}, 400),
            ("POST", "/v1/kv/c", "x", {}, 400),
            ("POST", "/v1/kv/c?op=square", "x", {}, 400),
            ("POST", "/v1/kv/c?op=incr&by=many", "", {}, 400),
            ("POST", "/v1/kv/c?op=incr&by=9223372036854775808", "", {}, 400),
            ("PATCH", "/v1/kv/c", "x", {}, 405),
            ("POST", "/v1/status", "", {}, 405),
            ("GET", "/v1/nothing", None, {}, 404),
            ("GET", "/nothing", None, {}, 404)):
        r = a.request(method, path, body=body, headers=headers)
        assert r.status == expected, (method, path, r)
        if path.startswith("/v1"):
            assert set(r.json()["error"]) >= {"code", "message"}, r
    assert a.put("k" * 480, "x").status == 201
    assert a.put("largest", b"x" * (1 << 20)).status == 201
    assert len(cluster.nodes[1].get("largest").body) == 1 << 20
    try:
        assert a.put("larger", b"x" * ((1 << 20) + 1)).status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused while the body was still on its way
    assert a.put("odd//../%00%FF", b"bytes").status == 201
    assert cluster.nodes[2].get("odd//../%00%FF").body == b"bytes"
    assert a.get("counter").status == 200


def raw(port, data, wait=1.0):
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while True:
                more = s.recv(65536)
                if not more:
                    return got
                got += more
        except OSError:
            return b""


def garbage(cluster):
    node = cluster.nodes[0]
    before = node.metrics()
    for data in (b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 40, struct.pack("<IIQ", 0x314c5254, 0xffffffff, 0) + b"\0" * 64,
                 b"\0" * 4096):
        raw(node.port + 10000, data)
    for data in (b"\0\1\2\3\r\n\r\n", b"PUT /v1/kv/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                 b"PUT /v1/kv/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n"):
        raw(node.port, data)
    after = node.metrics()
    for name, count in (('trilith_peer_connections_refused_total{reason="garbage"}', 4),
                        ("trilith_http_bad_requests_total", 3)):
        assert after[name] - before[name] == count, (name, before[name], after[name])
    assert node.put("after-garbage", "x").status in (200, 201)


def pipelined(cluster):
    request = b"".join(b"PUT /v1/kv/pipe%d HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d" % (i, i)
                       for i in range(5))
    request += b"GET /v1/kv/pipe4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", cluster.nodes[1].port), timeout=5) as s:
        s.sendall(request)
        got = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            got += more
    assert got.count(b"HTTP/1.1 201") == 5 and got.endswith(b"4"), got


def command_line(cluster):
    assert trilith(cluster, "-o", "raw", "put", "cli/k", "v")[0] == 0
    assert trilith(cluster, "get", "cli/k") == (0, b"v", b"")
    assert trilith(cluster, "put", "cli/bytes", "-", text=b"\0\xff")[0] == 0
    assert trilith(cluster, "get", "cli/bytes")[1] == b"\0\xff"
    code, out, _ = trilith(cluster, "-o", "json", "get", "cli/bytes")
    assert code == 0 and json.loads(out)["encoding"] == "base64"
    assert trilith(cluster, "incr", "cli/n", "--by", "7") == (0, b"7\n", b"")
    assert trilith(cluster, "append", "cli/k", "w") == (0, b"2\n", b"")
    code, out, _ = trilith(cluster, "-o", "table", "get", "cli/k")
    assert code == 0 and b"REVISION" in out and b"vw" in out
    assert trilith(cluster, "delete", "cli/k")[0] == 0
    assert trilith(cluster, "scan", "many/", "--limit", "2") == (0, b"many/000\tv\nmany/001\tv\n", b"")
    assert trilith(cluster, "scan", "--start", "many/126", "--end", "many0", "--keys-only",
                   "--reverse") == (0, b"many/127\nmany/126\n", b"")
    assert trilith(cluster, "scan", "many/", "--count") == (0, b"128\n", b"")
    r = trilith(cluster, "scan", "uneven/")
    assert r == (0, b"uneven/\xff +\t\xfe\n", b""), r
    code, out, _ = trilith(cluster, "-o", "json", "scan", "uneven/")
    assert code == 0 and json.loads(out)["key_encoding"] == "base64", out
    code, out, _ = trilith(cluster, "-o", "table", "scan", "many/")
    assert code == 0 and out.split()[:4] == [b"KEY", b"REVISION", b"VERSION", b"VALUE"], out
    assert out.count(b"\n") == 129, out
    txn = '{"if":[{"key":"cli/t","exists":false}],"then":[{"op":"put","key":"cli/t","value":"1"}]}'
    code, out, _ = trilith(cluster, "txn", txn)
    assert code == 0 and json.loads(out)["succeeded"] is True, (code, out)
    code, out, _ = trilith(cluster, "-o", "table", "txn", text=txn.encode())
    assert code == 4 and b"A condition does not hold." in out, (code, out)
    assert trilith(cluster, "txn", "{}")[0] == 0 and trilith(cluster, "txn", "{")[0] == 1
    assert trilith(cluster, "txn", "/no/such/file")[0] == 1
    assert trilith(cluster, "put", b"cli/\xff", "v")[0] == 0
    code, out, _ = trilith(cluster, "-o", "json", "get", b"cli/\xff")
    assert code == 0 and json.loads(out)["key_encoding"] == "base64", (code, out)
    code, _, err = trilith(cluster, "put", "cli/large", text=b"x" * 3000000)
    assert code == 1 and b"413" in err, (code, err)
    assert trilith(cluster, "get", "cli/k")[0] == 3
    assert trilith(cluster, "put", "cli/n", "x", "--if-absent")[0] == 4
    assert trilith(cluster, "put", "cli/n", "x", "--if-match", "1")[0] == 4
    for args in ((), ("fly",), ("get",), ("get", ""), ("get", "a", "b"), ("--by", "x", "incr", "k"),
                 ("-o", "xml", "get", "k"), ("--no-such-option",), ("--timeout", "4294968", "get", "k"),
                 ("--if-match", "1", "--if-absent", "put", "k", "v"),
                 ("--idempotency-key", "", "put", "k", "v"), ("--limit", "0", "scan"),
                 ("--limit", "1", "--count", "scan"), ("--consistency", "nonsense", "get", "k"),
                 ("txn", "{}", "--if-match", "1"), ("put", "cli/dry", "x", "--dry-run"),
                 ("log", "show", "--cluster"), ("members", "--dry-run")):
        assert trilith(cluster, *args)[0] == 2, args
    assert trilith(cluster, "get", "cli/dry")[0] == 3
    assert trilith(cluster, "inspect", __file__)[0] == 3
    r = subprocess.run([program("trilith"), "-e", "127.0.0.1:1", "--timeout", "1", "get", "k"],
                       stderr=subprocess.PIPE)
    assert r.returncode == 5, r
    code, out, _ = trilith(cluster, "-o", "table", "status")
    assert code == 0 and out.strip().endswith(b"Can lose 1 more node."), out


def ask_fakes(nodes, *args):
    r = subprocess.run([program("trilith"), "-e", nodes[0].address, *args], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    for node in nodes:
        node.close()
    return r.returncode, r.stdout, r.stderr


def status_says_what_leaders_know(_):
    """The node that is asked counts a voter that it is connected to; the leader knows better. A member
    without groups has a row as well."""
    for output in ("table", "json"):
        def answer(node, _, path, __):
            if path == "/v1/status":
                if node is nodes[2]:
                    return {"stage": "birth", "waits_for": "waiting for its seat", "groups": []}
                return {"stage": "running", "groups": [{"group": 0, "role": "follower"}]}
            groups = [{"group": 0, "leader": nodes[0].address, "can_lose": 1},
                      {"group": 1, "leader": nodes[1].address, "can_lose": 0 if node is nodes[1] else 1}]
            return {"answered_by": node.address, "members": [{"address": n.address} for n in nodes],
                    "groups": groups, "can_lose": 1}

        nodes = []
        nodes += [Fake(answer) for _ in range(3)]
        code, out, err = ask_fakes(nodes, "-o", output, "status")
        assert code == 0, (code, out, err)
        if output == "json":
            cluster = json.loads(out)
            assert (cluster["can_lose"], cluster["groups"][0]["can_lose"], cluster["groups"][1]["can_lose"]) == (0, 1, 0)
            continue
        rows = [line.split()[:3] for line in out.splitlines()[1:4]]
        assert rows == [[nodes[0].address, "0", "follower"], [nodes[1].address, "0", "follower"],
                        [nodes[2].address, "birth"]], out
        assert f"{nodes[2].address}: waiting for its seat.\n" in out and out.endswith("Cannot lose another node.\n"), out


def status_before_there_is_a_cluster(_):
    with Cluster(3, start=False) as other:
        node = other.nodes[0].start()
        wait_for(lambda: subprocess.run([program("trilith"), "-e", node.address, "--timeout", "1", "status"],
                                        capture_output=True).returncode == 0, 20, "a node at birth")
        r = subprocess.run([program("trilith"), "-e", node.address, "-o", "table", "status"],
                           stdout=subprocess.PIPE, text=True)
        lines = r.stdout.splitlines()
        assert lines[1].split() == [node.address, "birth"] and "waiting for" in lines[2], r.stdout
        assert lines[-1] == "There is no cluster yet.", r.stdout


def lost_answer_moves_leadership_once(_):
    """A request that is repeated names the node that was to lead when it was first sent."""
    def answer(node, _, path, body):
        asked = json.loads(body)
        if "dry_run" in path:
            return {"changed": True, "from": "a:1", "leader": "b:1", "refused": None, "reason": None}
        node.posts.append(asked)
        leads = asked.get("address", "c:1" if len(node.posts) > 1 else "b:1")
        if len(node.posts) == 1:
            return None
        return {"changed": False, "from": leads, "leader": leads, "refused": None, "reason": None}

    node = Fake(answer)
    node.posts = []
    code, out, err = ask_fakes([node], "-o", "table", "leader", "transfer", "--group", "1")
    assert (code, out) == (0, "Group 1: b:1 leads already.\n"), (code, out, err)
    assert node.posts == [{"group": 1, "address": "b:1"}] * 2, node.posts

    def refuse(*_):
        return {"changed": False, "leader": None, "refused": "no_successor", "reason": "nobody"}
    node = Fake(refuse)
    code, out, err = ask_fakes([node], "leader", "transfer", "--group", "1")
    assert code == 1 and "nobody (no_successor)" in err and len(node.asked) == 1, (code, out, err)


def second_process(cluster):
    node = cluster.nodes[0]
    r = subprocess.run([program("trilithd"), "--address", node.address, "--view", cluster.view,
                        "--data-dir", node.dir], stderr=subprocess.PIPE, timeout=10)
    assert r.returncode == 3, r
    assert b"in use" in r.stderr, r.stderr
    foreign = os.path.join(cluster.dir, "foreign")
    os.mkdir(foreign)
    open(os.path.join(foreign, "thesis.doc"), "w").close()
    r = subprocess.run([program("trilithd"), "--address", "127.0.0.1:1", "--data-dir", foreign],
                       stderr=subprocess.PIPE, timeout=10)
    assert r.returncode == 3, r
    for args in (["--no-such-option"], ["--address", "nonsense"], [], ["--address", "h:1", "--log-retain", "x"],
                 ["--address", "127.0.0.1:9", "--view", "127.0.0.1:10"]):
        r = subprocess.run([program("trilithd"), *args], stderr=subprocess.PIPE, timeout=10)
        assert r.returncode == 2 and r.stderr, (args, r)


def closed_streams(cluster):
    """A program started without stdin, stdout and stderr does not take their numbers for its files."""
    def close_all():
        for fd in range(3):
            os.close(fd)

    address = f"127.0.0.1:{free_ports(1)[0]}"
    process = subprocess.Popen([program("trilithd"), "--address", address, "--data-dir",
                                os.path.join(cluster.dir, "no-streams")], preexec_fn=close_all)
    try:
        def ask(*args):
            return subprocess.run([program("trilith"), "-e", address, *args], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)

        wait_for(lambda: ask("put", "stone", "granite").returncode == 0, 30, "a node without streams")
        assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        assert ask("get", "stone").stdout == b"granite"
        r = subprocess.run([program("trilith"), "-e", address, "get", "stone"], preexec_fn=close_all)
        assert r.returncode == 1, "what could not be printed is an error"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def foreign_cluster(cluster):
    """A peer of another cluster is refused and counted; nothing of either gets into the other."""
    with Cluster(2) as other:
        # Of two nodes the one with the smaller store id connects: it stays and calls the other.
        stays, goes = sorted(other.nodes,
                             key=lambda n: n.request("GET", "/v1/status").json()["store_id"])
        assert stays.put("theirs", "x").status == 201
        assert stays.get("theirs").body == b"x"  # it has applied it, too
        goes.kill()
        goes.dir += "-another"
        goes.start(view=goes.address)  # a cluster of its own where a member of another one was
        wait_for(goes.ready, 30, "the new cluster", goes)
        name = 'trilith_peer_connections_refused_total{reason="foreign_cluster"}'
        wait_for(lambda: goes.metrics()[name] > 0, 20, "the refusal to be counted")
        assert goes.get("theirs").status == 404 and goes.put("mine", "x").status == 201
        assert stays.request("GET", "/v1/kv/theirs?consistency=local").body == b"x"
        assert stays.status()["has_quorum"] is False
    with Cluster(1) as other:
        stranger = other.nodes[0]
        identity = cluster.nodes[0]
        assert stranger.put("theirs", "x").status == 201
        # A node with data ignores --view: naming our members does not make it one of them.
        stranger.kill()
        stranger.start(view=f"{stranger.address},{identity.address}")
        other.wait_ready()
        assert stranger.get("theirs").body == b"x" and identity.get("theirs").status == 404


def restarts(cluster):
    for node in cluster.nodes:
        node.process.kill()
    for node in cluster.nodes:
        node.wait()
    for node in reversed(cluster.nodes):
        node.start()
    cluster.wait_ready()
    assert cluster.nodes[2].get("counter").body == b"40"
    assert "event=recovered" in cluster.nodes[0].log_text()
    # A follower away and back: no election, and it has what it missed.
    follower = cluster.followers()[0]
    leader = cluster.leader()
    term = cluster.data_group(leader)["term"]
    follower.kill()
    wait_for(lambda: leader.status()[f"partner_node_status_server_{follower.address}"] == 0, 20, "the loss to show")
    assert leader.put("missed", "1").status == 201
    follower.start()
    cluster.wait_ready()
    assert follower.get("missed").body == b"1" and follower.status()["state"] == 0
    assert cluster.data_group(leader)["term"] == term
    # SIGTERM flushes: nothing to replay. And who has data ignores a view, even one that cannot be.
    stopped = cluster.followers()[0]
    assert stopped.kill(signal.SIGTERM) == 0
    stopped.start(view="127.0.0.1:9/10,127.0.0.1:9", options=["--join", stopped.address])
    cluster.wait_ready()


def without_quorum(cluster):
    survivor = cluster.leader()
    for node in cluster.nodes:
        if node is not survivor:
            node.kill()
    start = time.monotonic()
    r = survivor.put("lonely", "x", timeout=8)
    assert r.status in (503, 504), r
    assert r.json()["error"]["outcome"] in ("not_executed", "unknown")
    wait_for(lambda: not survivor.status()["has_quorum"], 10, "has_quorum to be false")
    r = survivor.put("lonely", "x", timeout=8)
    assert r.status == 503 and r.json()["error"]["outcome"] == "not_executed", r
    assert survivor.get("counter", timeout=8).status == 503
    assert survivor.request("GET", "/v1/kv/counter?consistency=local").body == b"40"
    assert survivor.request("GET", "/livez").status == 200
    assert survivor.request("GET", "/readyz").status == 503
    term = cluster.data_group(survivor)["term"]
    time.sleep(1)
    assert cluster.data_group(survivor)["term"] == term, "a minority's term must not climb"
    for node in cluster.nodes:
        if node is not survivor:
            node.start()
    cluster.wait_ready()
    cluster.wait_equal()
    assert time.monotonic() - start < 60


def main():
    with Cluster(3) as cluster:
        for part in (first_session, idempotency, followers_serve_linearizable_reads, transactions,
                     scans, list_family,
                     admin_status, bad_input, garbage, pipelined, command_line, status_says_what_leaders_know,
                     status_before_there_is_a_cluster, lost_answer_moves_leadership_once, second_process,
                     closed_streams, foreign_cluster, restarts, without_quorum):
            start = time.monotonic()
            part(cluster)
            print(f"ok {part.__name__} ({time.monotonic() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
