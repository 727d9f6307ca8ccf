"""`cfgbench doctor`: what an experiment needs and what is missing, before anything starts."""

import argparse
import json

from cfgbench.commands import Commands, device_name, experiment_parser, output_folder, positive


def add(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Its arguments."""
    text = "look for all that an experiment needs: weights, licences, memory, disk, hours"
    parser = experiment_parser(commands, "doctor", text, _doctor)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is one)")
    parser.add_argument("--workers", type=positive, help="worker processes of the run (default: as in `run`)")
    parser.add_argument("--measure", action="store_true", help="time a few steps of every model, to tell the hours")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def _doctor(options: argparse.Namespace) -> int:
    from cfgbench import doctor, machine
    from cfgbench.doctor.items import MISSING, OK
    from cfgbench.planning import experiment

    loaded = experiment.load(options.experiment, options.overrides)
    device = device_name(options.device, machine.has_cuda())
    workers = options.workers or {"cpu": machine.cores(), "cuda": len(machine.gpus())}.get(device, 1)
    place = doctor.Place(device, output_folder(loaded.name, options), workers, options.measure)
    items = []
    for item in doctor.examine(loaded, place):
        items.append(item)
        if not options.json:
            mark = {OK: "ok  ", MISSING: "MISS"}.get(item.state, "    ")
            print(f"{mark} {item.topic:<10} {item.text}", flush=True)
    missing = sum(item.state == MISSING for item in items)
    if options.json:
        print(json.dumps([item._asdict() for item in items], indent=2))
    elif missing:
        print(f"{missing} of {len(items)} things are missing; nothing was started")
    else:
        print(f"all there; start it by `cfgbench run {options.experiment}`")
    return 1 if missing else 0
