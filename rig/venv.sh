#!/bin/sh
# Makes the virtual environment: venv.sh PYTHON FOLDER. Installs Debian's python3-venv when it is missing and we are root.
set -eu
python=$1 folder=$2
command -v "$python" >/dev/null || { echo "$python is missing: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { "$python" --version >&2; echo "fleetwake needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 install" >&2; exit 1; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv
    else
        echo "Python's venv is missing: sudo apt-get update && sudo apt-get install -y python3-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
