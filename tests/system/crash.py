#!/usr/bin/env python3
"""kill -9 under load: leader, follower, all at once. Nothing acknowledged is lost.

crash.py [--rounds N] [--seed S] [--nodes N]
"""

import argparse
import random
import time

from cluster import Cluster, wait_for
from linear import Load


def victims(cluster, chooser):
    kind = chooser.choice(("leader", "leader", "follower", "all"))
    if kind == "all":
        return kind, list(cluster.nodes)
    leader = cluster.leader()
    if kind == "leader":
        return kind, [leader]
    return kind, [chooser.choice([n for n in cluster.nodes if n is not leader])]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--nodes", type=int, default=3)
    args = parser.parse_args()
    print(f"crash: seed {args.seed}", flush=True)
    chooser = random.Random(args.seed)
    kinds = {"leader": 0, "follower": 0, "all": 0}
    with Cluster(args.nodes) as cluster, Load(cluster, seed=args.seed) as load:
        for number in range(args.rounds):
            before = load.acked
            wait_for(lambda: load.acked > before + 20, 20, "writes to be acknowledged")
            time.sleep(chooser.uniform(0.05, 0.8))
            kind, nodes = victims(cluster, chooser)
            kinds[kind] += 1
            for node in nodes:
                node.process.kill()
            for node in nodes:
                node.wait()
            time.sleep(chooser.uniform(0, 0.5))
            for node in nodes:
                node.start()
            cluster.wait_ready()
            wrong = [w for c in load.clients for w in c.wrong]
            assert not wrong, f"round {number}, seed {args.seed}:\n" + "\n".join(wrong[:20])
        load.stop()
        cluster.wait_ready()
        load.check()
        index = cluster.wait_equal()
        operations = sum(c.operations for c in load.clients)
        print(f"crash: {args.rounds} rounds {kinds}, {operations} operations, {load.acked} writes "
              f"acknowledged, none lost; all nodes at index {index[0]} with equal digests; "
              f"{load.judged()}")


if __name__ == "__main__":
    main()
