#!/usr/bin/env python3
"""Many rows, kill -9 of all, restart: ready soon, replaying only what was not flushed.

rows.py [--rows N] [--ready-within SECONDS]
"""

import argparse
import json
import re
import subprocess
import time

from cluster import Cluster, program


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--ready-within", type=float, default=2.0)
    args = parser.parse_args()
    with Cluster(3) as cluster:
        start = time.monotonic()
        out = subprocess.check_output([program("trilith-bench"), "--targets", cluster.leader().address,
                                       "--fill", "--keys", str(args.rows), "--value-bytes", "256"])
        result = json.loads(out)
        assert result["ok"] == args.rows, result
        print(f"rows: {args.rows} rows written in {time.monotonic() - start:.0f} s", flush=True)
        for node in cluster.nodes:
            node.process.kill()
        for node in cluster.nodes:
            node.wait()
        start = time.monotonic()
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        elapsed = time.monotonic() - start
        replayed = [int(re.findall(r"event=recovered .*group=1 .*replay=(\d+)", n.log_text())[-1])
                    for n in cluster.nodes]
        rows = cluster.wait_equal()[2]
        print(f"rows: all three ready {elapsed:.2f} s after the restart, replayed {replayed} entries; "
              f"{rows} rows, equal digests")
        assert rows == args.rows
        assert elapsed <= args.ready_within, elapsed
        assert max(replayed) < args.rows / 2, replayed


if __name__ == "__main__":
    main()
