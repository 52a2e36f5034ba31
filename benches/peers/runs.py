"""Building and running our side of a comparison."""
import json
import subprocess


def built(bench):
    """The path of a bench, built as `cargo bench` builds it."""
    command = ["cargo", "bench", "--quiet", "--bench", bench, "--no-run", "--message-format", "json"]
    messages = [json.loads(line) for line in output(command).splitlines()]
    found = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == bench]
    return found[-1]


def output(command):
    """What a command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
