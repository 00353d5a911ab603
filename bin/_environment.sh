# Sourced by every binary: sets $root and $python, an interpreter that has all of tfshape's needs, making .venv if need be.
# A caller may name more modules it needs in $modules.
root=$(cd -- "$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf %s "$0")")/.." && pwd)

has_needs() {
  (cd / && "$1" -c 'import sys
from importlib.util import find_spec
sys.exit(not all(map(find_spec, sys.argv[1:])))' tfshape tensorflow keras absl pandas dp_accounting ${modules:-}) 2>/dev/null
}

stamp=$(cat "$root/setup.py" "$root/constraints.txt" | cksum)
python=
if has_needs python3; then
  python=python3
elif [ "$(cat "$root/.venv/ready" 2>/dev/null)" = "$stamp" ] && "$root/.venv/bin/python" -c '' 2>/dev/null; then
  python=$root/.venv/bin/python
else
  for candidate in python3.11 python3.10 python3.9 python3 python; do
    if "$candidate" -c 'import ensurepip, venv, sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' 2>/dev/null; then
      "$candidate" "$root/bin/_make_venv.py" "$root" "$stamp" || exit 1
      python=$root/.venv/bin/python
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "tfshape needs Python 3.9, 3.10 or 3.11 with its venv module; install one, for example: apt install python3.11 python3.11-venv" >&2
  exit 1
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
