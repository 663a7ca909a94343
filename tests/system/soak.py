#!/usr/bin/env python3
"""Overwrites a fixed set of keys for minutes: log env, memory and commit latency stay flat.

soak.py [--minutes M] [--keys N]
"""

import argparse
import json
import subprocess
import time

from cluster import Cluster, program


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keys", type=int, default=100000)
    args = parser.parse_args()
    seconds = int(args.minutes * 60)
    with Cluster(3) as cluster:
        leader = cluster.leader()
        bench = subprocess.Popen([program("trilith-bench"), "--targets", leader.address, "--keys",
                                  str(args.keys), "--seconds", str(seconds)], stdout=subprocess.PIPE)
        start, middle = time.monotonic(), None
        while bench.poll() is None:
            time.sleep(1)
            rss = [n.rss_anon() for n in cluster.nodes]
            if middle is None and time.monotonic() - start >= seconds / 2:
                middle = rss
                print(f"soak: half time: RssAnon {[r >> 20 for r in rss]} MiB", flush=True)
        result = json.loads(bench.stdout.read())
        log_mb = [n.log_env_bytes() >> 20 for n in cluster.nodes]
        growth = [100 * (r / m - 1) for r, m in zip(rss, middle)]
        print(f"soak: {result['ops_per_s']:.0f} puts/s, p99 {result['p99_us']} us, {result['failed']} failed")
        print(f"soak: log env {log_mb} MiB; RssAnon {[r >> 20 for r in rss]} MiB, growth over the second "
              f"half {[f'{g:.1f} %' for g in growth]}")
        for node in cluster.nodes:
            metrics = node.metrics()
            p99 = {k: v for k, v in metrics.items() if "log_commit" in k and "0.99" in k}
            print(f"soak: {node.address} log commit p99: {p99}")
        assert result["failed"] == 0, result
        assert max(log_mb) <= 256, log_mb
        assert max(rss) <= 300 << 20, rss
        assert max(growth) < 5, growth
        cluster.wait_equal()


if __name__ == "__main__":
    main()
