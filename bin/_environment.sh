# Sourced by every binary: sets $root and $python, an interpreter that has all of tfshape's needs, making .venv (TensorFlow
# 2.15) or .venv-keras3 if need be. A caller may name more modules it needs in $modules, and insist on a $stack. Nothing
# is imported from the folder that a binary is started in, which may be somebody else's.
trap 'exit 130' INT
root=$(cd -- "$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf %s "$0")")/.." && pwd)

has_needs() {
  (cd / && "$1" -c 'import sys
from importlib.metadata import version
from importlib.util import find_spec
keras = {"main": "2.", "keras3": "3."}.get(sys.argv[1], "")
sys.exit(not (all(map(find_spec, sys.argv[2:])) and version("keras").startswith(keras)))' \
    "${stack:-}" tfshape tensorflow keras absl pandas dp_accounting ${modules:-}) 2>/dev/null
}

# Replaces itself by the command in its arguments, with stderr as 3 and SIGINT blocked: Ctrl-C waits until that is ready.
block='import _signal; _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
import os, sys; os.dup2(3, 2); os.close(3); os.execvp(sys.argv[1], sys.argv[1:])'

# FOLDER CONSTRAINTS LOWEST HIGHEST PYTHON...: uses the environment in that folder, made by the first Python that fits.
environment() {
  folder=$1 constraints=$2 lowest=$3 highest=$4
  shift 4
  stamp=$(cat "$root/setup.py" "$root/$constraints" | cksum)
  if [ "$(cat "$root/$folder/ready" 2>/dev/null)" != "$stamp" ] || ! "$root/$folder/bin/python" -ISc '' 2>/dev/null; then
    for candidate in "$@" -; do
      [ "$candidate" != - ] || return 1
      fits="import ensurepip, venv, sys; sys.exit(not ($lowest) <= sys.version_info < ($highest))"
      "$candidate" -Ic "$fits" 2>/dev/null && break
    done
    "$candidate" -ISc "$block" "$candidate" -I "$root/bin/_make_venv.py" "$root" "$folder" "$constraints" "$stamp" 3>&2 2>/dev/null ||
      exit $?
  fi
  python=$root/$folder/bin/python
}

main() { environment .venv constraints.txt "3, 9" "3, 12" python3.11 python3.10 python3.9 python3 python; }
keras3() { environment .venv-keras3 constraints-keras3.txt "3, 11" "3, 14" python3.12 python3.13 python3.11 python3 python; }

if has_needs python3; then
  python=$(command -v python3)
elif [ -n "${stack:-}" ]; then
  "$stack" || {
    echo "tfshape: no Python for stack $stack; main needs 3.9, 3.10 or 3.11, keras3 3.11, 3.12 or 3.13, with its venv module" >&2
    exit 1
  }
elif ! main && ! keras3; then
  echo "tfshape needs Python 3.9 to 3.13 with its venv module; install one, for example: apt install python3.11 python3.11-venv" >&2
  exit 1
fi

path=$root IFS=:
set -f
for entry in ${PYTHONPATH:-}; do
  path=$path${entry:+:$entry}  # an empty one means the working directory
done
unset IFS
set +f
export PYTHONPATH="$path"

# NAME FLAG...: runs a binary.
run() {
  exec "$python" -ISc "$block" "$python" "$root/tfshape/__main__.py" "$@" 3>&2 2>/dev/null
}
