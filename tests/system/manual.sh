#!/bin/bash
# manual.sh - every option that a program knows stands in its manual page, once, and no other does.
set -u
source_dir=${srcdir:-.}/docs
build_dir=${builddir:-.}
failures=0

for page in trilith.1 trilithd.8; do
    known=$("$build_dir/${page%.*}" --help | sed -n 's/^ *\(-[a-zA-Z?], \)\?\(--[a-z-]*\).*/\2/p' | sort -u)
    # The line behind .TP is the head of a paragraph.
    described=$(grep -A1 -x '\.TP' "$source_dir/$page" | sed -n 's/\\-/-/g; /^\(\\fB-[a-z]\\fR, \)\?\\fB--/p' |
        grep -o -e '\\fB--[a-z-]*' | sed 's/^\\fB//' | sort)
    if [[ -z $known || "$known" != "$described" ]]; then
        echo "$page:"
        diff <(echo "$known") <(echo "$described")
        failures=1
    fi
done
exit $failures
