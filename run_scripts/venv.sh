# Other scripts source this file. It makes .venv and installs a requirements file into it, once for each version of the file.
# Usage: ensure_venv REQUIREMENTS_FILE (relative to the project's folder, which must be the current one)

ensure_venv() {
    local requirements=$1 python=${PYTHON:-python3} stamp
    stamp=.venv/installed-$(cat requirements*.txt | cksum | cut -d' ' -f1)-$requirements
    if [ -e "$stamp" ]; then return; fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: $python is $("$python" --version 2>&1); Python 3.11 or newer is needed (name one with PYTHON=...)" >&2
        return 1
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    echo "installing $requirements into .venv ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
    touch "$stamp"
}
