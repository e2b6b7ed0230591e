"""A Python program that does as it is told: `NAME ARGUMENTS...` on standard input calls that function of `checks`, its answer
comes back after a `>`. The module under test is named on the command line."""
import importlib
import os
import sys
import threading

import checks

module = importlib.import_module(sys.argv[1])
checks.begin(module)
print("ready", os.getpid(), flush=True)


def answer(line):
    name, *arguments = line.split()
    try:
        result = getattr(checks, name)(*map(int, arguments))
    except BaseException as error:
        result = f"{type(error).__name__}: {error}"
    print(f">{result}", flush=True)


def listen():
    for line in sys.stdin:
        answer(line)
    os._exit(0)


if "busy" in sys.argv:
    # The main thread computes, as a program does that is at work; another one answers.
    threading.Thread(target=listen, daemon=True).start()
    while True:
        checks.spin()
else:
    listen()
