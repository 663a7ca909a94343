#!/bin/sh
# tidy.sh - the rules of the code base that a machine can check. Run by `make check`.
#
# Checks: layering of includes, lines > 100 columns, functions > 70 lines, files > 1,200 lines, banned
# calls, head comment and thread line of headers, unfinished marks, skipped tests, commented-out
# assertions, crash points that nobody counts or documents.
set -eu
cd "${srcdir:-.}"
sources=$(find src include tests bench -name '*.[ch]' | sort)
errors=$(
    # Layering: the layers from the lowest up; a header belongs to one layer and may be included from
    # that layer on upwards. Third-party headers are confined to the modules that own them.
    awk '
        BEGIN {
            n = split("base wire raft store kv node net http trilithd", order, " ")
            for (i = 1; i <= n; i++) rank[order[i]] = i
            split("address assert buf codec crash_point error hash histogram log prng std_streams",
                  b, " ")
            for (i in b) layer[b[i]] = "base"
            split("entry conf_entry raft_message command row genesis frame frame_parts placement digest_report" \
                  " snapshot_chunk txn", w, " ")
            for (i in w) layer[w[i]] = "wire"
            layer["raft"] = "raft"
            split("log_store table generation view kv_table data_dir snapshot scan", s, " ")
            for (i in s) layer[s[i]] = "store"
            layer["kv_state"] = "kv"; layer["pump"] = "net"; layer["listener"] = "net"
            layer["node"] = "node"; layer["placement_change"] = "node"
            layer["http_server"] = "http"
            confined["lmdb.h"] = "store"
            confined["uv.h"] = "net http trilithd bench"
            confined["h2o.h"] = "http"
            confined["curl/curl.h"] = "client"
            confined["pthread.h"] = "net http client"
            impure = " time.h unistd.h stdio.h pthread.h "
            pure = " wire raft kv node "
        }
        function listed(list, word) { return index(" " list " ", " " word " ") != 0 }
        FNR == 1 { split(FILENAME, path, "/"); module = path[2] }
        path[1] == "src" && /^#include/ {
            name = $2; gsub(/[<>"]/, "", name); where = FILENAME ":" FNR ": "
            if (name in confined && !listed(confined[name], module))
                print where name " is confined to: " confined[name]
            if (index(impure, " " name " ") && index(pure, " " module " "))
                print where module " is pure: " name " is not allowed"
            if (name ~ /^trilith\//) {
                stem = name; sub(/^trilith\//, "", stem); sub(/\.h$/, "", stem)
                if (!(stem in layer) && stem != "client")
                    print where "header without a layer, name it in tidy.sh: " name
                if (stem in layer && module in rank && rank[layer[stem]] > rank[module])
                    print where "layering: " module " may not include " name
            }
        }
    ' $sources
    awk '
        function report(text) { print FILENAME ":" FNR ": " text }
        function file_end() {
            if (header != "" && !has_thread) print header ":1: header has no \"Thread:\" line"
            if (lines > 1200) print previous ": file exceeds 1,200 lines"
        }
        FNR == 1 {
            file_end(); has_thread = 0; start = 0; previous = FILENAME
            header = FILENAME ~ /^include.*\.h$/ ? FILENAME : ""
            if (header != "" && $0 !~ /^\/\* [a-z0-9_]+\.h - /) report("header has no head comment")
        }
        { lines = FNR }
        /^ \* Thread: / { has_thread = 1 }
        {
            columns = $0
            gsub(/[\200-\277]/, "", columns) # bytes that continue a UTF-8 character
            if (length(columns) > 100) report("line exceeds 100 columns")
        }
        /(FIXME|TODO|XXX)/ { report("unfinished mark") }
        /[^a-z_](strcpy|strcat|sprintf|gets|atoi|alloca|strtok|rand)\(/ { report("banned function") }
        /^ *(\/\/|\/\*) *(cr_(assert|expect)|TL_ASSERT)/ { report("commented-out assertion") }
        /(\.disabled|cr_skip)/ { report("skipped test") }
        /^\{/ { start = FNR }
        /^\}/ { if (start && FNR - start > 70) report("function exceeds 70 lines"); start = 0 }
        END { file_end() }
    ' $sources
)
# A crash point is documented, and the simulator fails unless it dies there.
points=$(grep -rhoE 'CRASH_POINT\("[a-z-]+"\)' src | sed 's/.*("\(.*\)").*/\1/' | sort -u)
for point in $points; do
    grep -q "^| \`$point\` |" docs/correctness.md ||
        errors="$errors
docs/correctness.md: crash point $point is not listed"
    grep -q "X(at_$(echo "$point" | tr - _))" tests/sim/sim.h ||
        errors="$errors
tests/sim/sim.h: crash point $point has no counter"
done
if [ -n "$errors" ]; then
    printf '%s\n' "$errors"
    exit 1
fi
