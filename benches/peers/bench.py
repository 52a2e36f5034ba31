"""Builds and runs a bench of this repository."""
import json
import subprocess


def build(name):
    """The executable of a bench, built as `cargo bench` builds it."""
    command = ["cargo", "bench", "--quiet", "--bench", name, "--no-run", "--message-format", "json"]
    messages = [json.loads(line) for line in output(command).splitlines()]
    found = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == name]
    return found[-1]


def run(executable, case, seconds):
    """The JSON line of a case, a dictionary of options."""
    arguments = [argument for name, value in case.items() for argument in (f"--{name}", str(value))]
    return json.loads(output([executable, *arguments, "--seconds", str(seconds)]))


def output(command):
    """Standard output of a command."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
