"""IPython's autoreload as a peer: `autoreload.py MODE FOLDER MODULE` checks and calls `value()` in turn."""

import importlib
import os
import sys
import threading
import time

from IPython.extensions.autoreload import ModuleReloader


def end_with_input():
    sys.stdin.read()
    os._exit(0)


mode, folder, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path.insert(0, folder)
threading.Thread(target=end_with_input, daemon=True).start()
reloader = ModuleReloader()
reloader.enabled = True
reloader.check_all = True
reloader.autoload_obj = mode == 3
module = importlib.import_module(name)
# Notes the time of what is loaded.
reloader.check(check_all=True, do_reload=False)
value = module.value
last = None
while True:
    reloader.check(check_all=True)
    found = value()
    if found != last:
        print(f"value {found} {time.clock_gettime_ns(time.CLOCK_MONOTONIC)}", flush=True)
        last = found
    time.sleep(50e-6)
