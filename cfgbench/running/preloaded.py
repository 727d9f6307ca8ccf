"""What the server that workers are forked from imports, once for all of them.

A server that cannot become a worker ends without a word: half of torch may fill its memory. Whoever started it finds
out why, and says so.
"""

import os
from contextlib import suppress
from importlib import import_module

try:
    import_module("cfgbench.running.worker")
except BaseException:
    os._exit(1)
with suppress(Exception):  # that not every model needs
    import_module("diffusers.schedulers.scheduling_utils")
