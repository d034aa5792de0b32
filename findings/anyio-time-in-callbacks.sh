#!/bin/sh
# anyio 4.16.0, sniffio 1.3.1, on asyncio (CPython 3.11).
#
# A guess: anyio.current_time() works wherever asyncio's event loop runs, callbacks of call_later()
# included; and installing one more package changes nothing about that.
#
# Seen: in a callback it works as long as sniffio is not installed. Once sniffio is there, which anyio
# itself no longer requires but HTTP and SDK packages still bring along, the same line raises
# NoEventLoopError, since sniffio looks for a current task and a callback has none. In a task it works
# either way. So code that passes its own tests breaks in the environments of its users.
#
#   without sniffio: task works, callback works
#   with sniffio: task works, callback raises NoEventLoopError
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check anyio==4.16.0
cat > "$folder/look.py" <<'PYTHON'
import asyncio

import anyio


def tried() -> str:
    try:
        anyio.current_time()
    except Exception as error:
        return f"raises {type(error).__name__}"
    return "works"


async def main() -> None:
    said = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.001, lambda: said.set_result(tried()))
    print(f"task {tried()}, callback {await said}")


asyncio.run(main())
PYTHON
without=$("$folder/env/bin/python" "$folder/look.py")
"$folder/env/bin/pip" install --quiet --disable-pip-version-check sniffio==1.3.1
with=$("$folder/env/bin/python" "$folder/look.py")
echo "without sniffio: $without"
echo "with sniffio: $with"
test "$without" = "task works, callback works"
test "$with" = "task works, callback raises NoEventLoopError"
