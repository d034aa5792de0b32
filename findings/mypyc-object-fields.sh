#!/bin/sh
# mypy 2.4.1 (mypyc), setuptools 80.9.0, CPython 3.11, with a C compiler.
#
# A guess: a strictly typed dataclass that mypy accepts and mypyc compiles without a word can be
# imported; and the annotation `object`, the plainest there is, costs nothing.
#
# Seen: it compiles, and importing it raises KeyError: 'object', as soon as a field of a dataclass or of
# a NamedTuple is annotated with exactly `object`. With `Any` in its place, or in a class that is neither,
# it works. So a module of pure, typed Python cannot be called fit for mypyc because it compiles: each has
# to be imported.
#
#   plain class, object: works
#   dataclass, Any: works
#   dataclass, object: KeyError: 'object'
#   NamedTuple, object: KeyError: 'object'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mypy==2.4.1 setuptools==80.9.0
cd "$folder"
cat > plain_object.py <<'PYTHON'
class Told:
    said: object = None
PYTHON
cat > data_any.py <<'PYTHON'
from dataclasses import dataclass
from typing import Any


@dataclass
class Told:
    said: Any = None
PYTHON
cat > data_object.py <<'PYTHON'
from dataclasses import dataclass


@dataclass
class Told:
    said: object = None
PYTHON
cat > tuple_object.py <<'PYTHON'
from typing import NamedTuple


class Told(NamedTuple):
    said: object = None
PYTHON
seen=
for module in plain_object data_any data_object tuple_object; do
    "$folder/env/bin/mypyc" "$module.py" > "$module.log" 2>&1 || { cat "$module.log"; exit 1; }
    rm "$module.py" # what is imported is what was compiled
    found=$("$folder/env/bin/python" -c "
try:
    import $module
    $module.Told()
except Exception as error:
    print(f'{type(error).__name__}: {error}')
else:
    print('works')
")
    echo "$module: $found"
    seen="$seen$module: $found; "
done
test "$seen" = "plain_object: works; data_any: works; data_object: KeyError: 'object'; \
tuple_object: KeyError: 'object'; "
