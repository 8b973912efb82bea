# Completion of `faceattr` for bash 4.3 or later; written by `faceattr completion bash`.

_faceattr() {
  local current=$2 before=$3 command=faceattr word
  COMPREPLY=()
  # `--engine=pa` is three words to bash.
  if [[ $current == "=" ]]; then
    current=""
  elif [[ $before == "=" ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ -n ${_faceattr_words["$command $word"]-} || -n ${_faceattr_flags["$command $word"]-} ]] || break
    command="$command $word"
  done
  if [[ -n ${_faceattr_values["$command $before"]-} ]]; then
    mapfile -t COMPREPLY < <(compgen -W "${_faceattr_values["$command $before"]-}" -- "$current")
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "${_faceattr_flags[$command]-}" -- "$current")
  elif [[ -n ${_faceattr_words[$command]-} ]]; then
    mapfile -t COMPREPLY < <(compgen -W "${_faceattr_words[$command]-}" -- "$current")
  fi
}
complete -o default -o bashdefault -F _faceattr faceattr
