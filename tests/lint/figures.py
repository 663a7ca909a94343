#!/usr/bin/env python3
"""Figures of the source, for comparing before and after a change of structure.

figures.py BUILD_DIRECTORY    (`make figures` in it)

files per room; fields of struct node and struct node_group, and how many of them one file alone uses; circles of calls
between the .c files of a layer (from object symbols); lengths of functions; asserts per function; words of comments,
strings and documents that plain technical English does without.
"""

import collections
import glob
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
LAYERS = "base wire raft store kv node net http client trilith trilithd".split()
WORDS = re.compile(r"\b(who|whoever|whom|nobody|somebody|behind|stands|told|heed\w*)\b", re.I)
ASSERT = re.compile(r"\bTL_ASSERT(?:_SLOW)?\(")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def sources(layer):
    return sorted(glob.glob(f"{ROOT}/src/{layer}/**/*.c", recursive=True))


def functions(text):
    """Their lengths: a brace alone at the left margin opens one, and closes it."""
    lengths, start = [], None
    for number, line in enumerate(text.splitlines()):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            lengths.append(number - start + 1)
            start = None
    return lengths


def struct_fields(text, name):
    """Names of the fields at the first level of struct `name`."""
    match = re.search(rf"^struct {name} \{{\n(.*?)^\}};", text, re.S | re.M)
    if match is None:
        return []
    body = re.sub(r"/\*.*?\*/", "", match.group(1), flags=re.S)
    while re.search(r"\{[^{}]*\}", body):
        body = re.sub(r"\{[^{}]*\}", "", body)
    fields = []
    for declaration in body.split(";"):
        names = re.findall(r"(\w+)\s*(?:\[[^\]]*\])*\s*(?:,|$)", declaration.strip())
        fields += [n for n in names if not n.isdigit()]
    return fields


def circles(build, layer):
    """Strongly connected sets of more than one object file, by Tarjan's algorithm."""
    objects = [o for o in glob.glob(f"{build}/src/{layer}/**/*.o", recursive=True) if "libsim" not in o]
    defined, wanted = {}, collections.defaultdict(set)
    for path in objects:
        for line in subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] in "TDBR":
                defined[parts[2]] = path
            elif parts[0] == "U":
                wanted[path].add(parts[1])
    calls = {o: {defined[s] for s in wanted[o] if s in defined} - {o} for o in objects}
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in calls[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            members = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(members) > 1:
                found.append(len(members))

    for path in objects:
        if path not in index:
            visit(path)
    return sorted(found, reverse=True), len(objects)


def prose(path):
    """Comments and strings of C, documents whole."""
    text = read(path)
    if path.endswith((".c", ".h")):
        return " ".join(re.findall(r'/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', text, re.S))
    return text


def print_nodes():
    header = read(f"{ROOT}/src/node/node_internal.h") + read(f"{ROOT}/src/node/node_snapshot.h")
    texts = {path: read(path) for path in sources("node")}
    for name, variable in (("node", r"node"), ("node_group", r"group")):
        fields = struct_fields(header, name)
        uses = {f: [p for p, t in texts.items() if re.search(rf"{variable}->{f}\b", t)] for f in fields}
        alone = sum(len(files) == 1 for files in uses.values())
        print(f"struct {name}: {len(fields)} fields, {alone} of them used by one file alone")


def main():
    build = sys.argv[1]
    print("rooms, .c and .h files: " + ", ".join(
        f"{os.path.relpath(d, ROOT + '/src')} {len(glob.glob(d + '/*.[ch]'))}"
        for d, _, names in sorted(os.walk(f"{ROOT}/src")) if any(n.endswith(".c") for n in names)))
    print_nodes()
    for layer in LAYERS:
        sizes, count = circles(build, layer)
        text = "".join(read(path) for path in sources(layer))
        lengths = functions(text)
        print(f"{layer}: {count} objects, circles of calls {sizes or 'none'}; {len(lengths)} functions, median "
              f"{statistics.median(lengths):.0f} lines, {sum(n > 50 for n in lengths)} over 50; "
              f"{len(ASSERT.findall(text)) / len(lengths):.2f} asserts a function")
    places = {"public headers": glob.glob(f"{ROOT}/include/trilith/*.h"),
              "src": [p for layer in LAYERS for p in glob.glob(f"{ROOT}/src/{layer}/**/*.[ch]", recursive=True)],
              "tests": glob.glob(f"{ROOT}/tests/**/*.[ch]", recursive=True),
              "documents": glob.glob(f"{ROOT}/*.md") + glob.glob(f"{ROOT}/docs/*") + glob.glob(f"{ROOT}/src/*/*.md")}
    for place, paths in places.items():
        counts = collections.Counter(w.lower() for p in paths for w in WORDS.findall(prose(p)))
        print(f"words in {place}: {sum(counts.values())}: "
              + ", ".join(f"{word} {n}" for word, n in counts.most_common()))


if __name__ == "__main__":
    main()
