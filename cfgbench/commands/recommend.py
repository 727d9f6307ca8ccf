"""`cfgbench recommend`: which scale, sampler, steps and dtype to use, within a budget."""

import argparse
import json
from pathlib import Path

from cfgbench.commands import Commands, positive
from cfgbench.units import memory, seconds


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    parser = commands.add_parser("recommend", help="name scale, sampler, steps and dtype to use, within a budget")
    parser.add_argument("folder", type=Path, help="for example results/digits")
    parser.add_argument("--max-latency", type=seconds, metavar="TIME", help="p50 of one batch, such as 2s or 500ms")
    parser.add_argument("--max-memory", type=memory, metavar="SIZE", help="peak, such as 12GB or 800MB")
    parser.add_argument("--max-nfe", type=positive, metavar="N", help="network evaluations per image")
    parser.add_argument("--prefer", metavar="SCORE", help="for example clip_score: maximised among those tied in FID")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="of the limits (default: the smallest timed)")
    parser.add_argument("--json", action="store_true", help="for scripts; the keys stay")
    parser.set_defaults(command=_recommend)


def _recommend(options: argparse.Namespace) -> int:
    from cfgbench.reading.recommend import rules, script, words
    from cfgbench.reading.recommend.budget import Budget
    from cfgbench.reading.tables.results import load

    budget = Budget(options.max_latency, options.max_memory, options.max_nfe, options.batch_size)
    made = rules.recommend(load(options.folder), budget, options.prefer)
    print(json.dumps(script.to_json(made), indent=1) if options.json else words.to_text(made))
    return 1 if made.exceeded else 0
