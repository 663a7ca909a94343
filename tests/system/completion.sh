#!/bin/bash
# completion.sh - what bash suggests behind the words of a command line.
set -u
source_dir=${srcdir:-.}/scripts/completions
build_dir=$(cd "${builddir:-.}" && pwd)
failures=0

# expect 'PROGRAM WORD... CURRENT' 'SUGGESTIONS': the last word is the one to complete; "" when it is empty.
expect()
{
    local COMP_WORDS COMP_CWORD COMPREPLY=()
    read -ra COMP_WORDS <<<"$1"
    [[ $1 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    "_${COMP_WORDS[0]}" "$build_dir/${COMP_WORDS[0]}"
    if [[ "${COMPREPLY[*]}" != "$2" ]]; then
        echo "'$1': '${COMPREPLY[*]}', not '$2'"
        failures=$((failures + 1))
    fi
}

. "$source_dir/trilith"
. "$source_dir/trilithd"
complete -p trilith trilithd >/dev/null || failures=1

expect 'trilith sta' 'status'
expect 'trilith -o json ge' 'get'
expect 'trilith get ' ''
expect 'trilith -o ' 'table json raw'
expect 'trilith --output = ta' 'table'
expect 'trilith --consistency =' 'linearizable causal local'
expect 'trilith --if-a' '--if-absent'
expect 'trilith put k --idem' '--idempotency-key'
expect 'trilith -e ' ''
expect 'trilithd --add' '--address'
expect 'trilithd --address ' ''
expect 'trilithd --allow-any-fs --peer' '--peer-listen'
expect 'trilithd --log-format ' 'text json'
expect 'trilithd --log-format = j' 'json'
exit $((failures > 0))
