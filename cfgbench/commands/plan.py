"""`cfgbench plan`: the cells of an experiment and what they will cost."""

import argparse

from cfgbench.commands import Commands, experiment_parser, output_folder


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    experiment_parser(commands, "plan", "print the cells of an experiment and what they will cost", _plan)


def _plan(options: argparse.Namespace) -> int:
    from cfgbench.planning import experiment, plan
    from cfgbench.running import overview

    made = plan.plan(experiment.load(options.experiment, options.overrides))
    print(overview.describe(made, output_folder(made.experiment.name, options)))
    return 0
