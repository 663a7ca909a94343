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
expect 'trilith log s' 'show'
expect 'trilith members a' 'add'
expect 'trilith members add ' ''
expect 'trilith leader ' 'transfer'
expect 'trilithd --add' '--address'
expect 'trilithd --address ' ''
expect 'trilithd --allow-any-fs --peer' '--peer-listen'
expect 'trilithd --log-format ' 'text json'
expect 'trilithd --log-format = j' 'json'

# Options are suggested with the verbs that take them, and with no others.
takes()
{
    local option=$1
    shift
    [[ $option == --consistency= ]] && option+=local
    [[ $option == *= ]] && option+=1
    ! "$build_dir/trilith" -e nowhere "$@" "$option" 2>&1 | grep -q 'does not take'
}
own_options=$("$build_dir/trilith" --help | grep -o -e '^ *--[a-z-]*=\?' | grep -o -e '--.*' |
    grep -vx -e '--timeout=' -e '--usage')
[[ $(wc -w <<<"$own_options") == 16 ]] || { echo "options: $own_options"; failures=1; }
for words in 'get k' 'put k v' 'append k v' 'incr k' 'delete k' 'scan p' 'txn {}' status 'log show' 'log verify' \
    'inspect /nowhere' members 'members list' 'members add a' 'members remove a' 'leader transfer'; do
    taken=
    for option in $own_options; do
        takes "$option" $words && taken+="${option%=} "
    done
    suggested=
    COMP_WORDS=(trilith $words --)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _trilith "$build_dir/trilith"
    for option in "${COMPREPLY[@]}"; do
        grep -qx -e "$option=\?" <<<"$own_options" && suggested+="$option "
    done
    if [[ "$suggested" != "$taken" ]]; then
        echo "trilith $words: suggested '$suggested', taken '$taken'"
        failures=$((failures + 1))
    fi
done
exit $((failures > 0))
