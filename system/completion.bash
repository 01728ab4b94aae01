# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion of drctl in bash: drctl itself says what can stand there.

_drctl() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() word next cut i
    # bash takes words apart at ':' and '=', drctl does not: what has no blank between is one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        next=${rest#"${rest%%[![:space:]]*}"}
        word=${COMP_WORDS[i]}
        [ "$i" -lt "$COMP_CWORD" ] || word=$next
        if [ "$i" = 0 ] || [ "$next" != "$rest" ] || { [ -z "$word" ] && [[ $COMP_LINE == *[[:space:]] ]]; }; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
        rest=${next#"$word"}
    done
    for i in "${!words[@]}"; do words[i]=${words[i]//[\\\'\"]/}; done
    # What bash has taken off the last word is not part of the answer either.
    cut=
    case ${words[-1]} in *[:=]*) cut=${words[-1]%"${words[-1]##*[:=]}"} ;; esac
    [[ $cut == *: && $COMP_WORDBREAKS != *:* ]] && cut=

    COMPREPLY=()
    while IFS= read -r next; do
        word=${next%%$'\t'*}
        case $word/${next#*$'\t'} in
        /files) compopt -o filenames && mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "${words[-1]#"$cut"}") ;;
        /directories) compopt -o filenames && mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "${words[-1]#"$cut"}") ;;
        *)
            case $word in *:) compopt -o nospace ;; esac
            printf -v word %q "${word#"$cut"}"
            COMPREPLY+=("$word")
            ;;
        esac
    done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _drctl drctl
