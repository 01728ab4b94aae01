#compdef drctl
# SPDX-License-Identifier: Apache-2.0
# Completion of drctl in zsh: drctl itself says what can stand there.

_drctl() {
    local -a offers lines
    local line word what files
    lines=("${(@f)$(_call_program drctl "${(q)words[1]}" complete -- "${(@q)${(@Q)words[2,CURRENT-1]}}" "${(q)${(Q)PREFIX}}" 2>/dev/null)}")
    for line in $lines; do
        word=${line%%$'\t'*} what=${line#*$'\t'}
        case $word/$what in
        /files) files=_files ;;
        /directories) files='_files -/' ;;
        *) offers+=("${word//:/\\:}:$what") ;;
        esac
    done
    # Behind "--option=" a file begins at the '='.
    [[ -z $files ]] || { compset -P '--*=' ; ${=files} }
    (( ! $#offers )) || _describe -t words word offers
}

_drctl "$@"
