"""Benchmarks of cfgbench itself: ratios, measured in turn, with their spread.

One module per benchmark with a function `run(quick) -> Result`; `quick` keeps everything small, for the tests.
"""

from collections.abc import Callable

from cfgbench.bench.result import Result

BENCHMARKS: dict[str, str] = {  # name -> target
    "frechet": "cfgbench.bench.frechet:run",
    "startup": "cfgbench.bench.startup:run",
    "floor": "cfgbench.bench.floor:run",
    "growth": "cfgbench.bench.growth:run",
    "answer": "cfgbench.bench.answer:run",
    "sweep": "cfgbench.bench.sweep:run",
}
Benchmark = Callable[[bool], Result]
