"""Checks the demonstration in containers without containers.

usage: compose.py REPOSITORY PRODUCT ENVOY

The commands of envoy/docker-compose.yaml are run on this machine: the product writes Envoy's configuration and the
filter, one local Envoy is started with it and one for each backend, each name of a container leads to its port here,
and the curl commands of envoy/README.md have to print what the page says they print.
"""

import copy
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import yaml

PATIENCE = 60


def fail(text):
    sys.exit(f"error: {text}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def structure(compose, folder):
    """What has to hold of the file where no `docker compose` is there to read it."""
    services, volumes = compose["services"], compose["volumes"]
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        if tag in ("", "latest") or "/" in tag:
            fail(f"{name}: the image {service['image']} is not pinned")
        for other in service.get("depends_on", {}):
            if other not in services:
                fail(f"{name} depends on {other}, which is not there")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (folder / source).exists():
                fail(f"{name}: {source} is not in the repository")
            if not source.startswith(".") and source not in volumes:
                fail(f"{name}: there is no volume {source}")
        if "build" not in service and "healthcheck" not in service:
            fail(f"{name} has no healthcheck")
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        subprocess.run(["docker", "compose", "-f", folder / "docker-compose.yaml", "--profile", "metrics", "config",
                        "--quiet"], check=True)
        print("  docker compose config: ok")
    else:
        print("  docker compose config: skipped, there is no `docker compose`; the structure is in order")


def on_port(config, port):
    """An Envoy configuration with its listener on a port of this machine."""
    config = copy.deepcopy(config)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"].update(address="127.0.0.1", port_value=port)
    return config


class Envoys:
    def __init__(self, envoy, folder):
        self.envoy, self.folder, self.running = envoy, folder, []

    def start(self, name, config, environment):
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        log = open(self.folder / f"{name}.log", "w")
        words = [self.envoy, "--config-path", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        self.running.append((name, subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | environment)))

    def await_port(self, port):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for name, process in self.running:
                if process.poll() is not None:
                    fail(f"Envoy `{name}` ended:\n" + (self.folder / f"{name}.log").read_text())
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        fail(f"nothing listens on {port}:\n" + "".join(file.read_text() for file in self.folder.glob("*.log")))

    def stop(self):
        for _, process in self.running:
            process.terminate()
        for _, process in self.running:
            process.wait()


def commands(page):
    """The curl commands of the page's part on containers, with what follows each."""
    part = page.split("\n## In containers\n")[1].split("\n## ")[0]
    found = []
    for block in part.split("```console\n")[1:]:
        for line in block.split("```")[0].splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(output)) for command, output in found if command.startswith("curl ")]


def main():
    root, product, envoy = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder = root / "envoy"
    compose = yaml.safe_load((folder / "docker-compose.yaml").read_text())
    structure(compose, folder)
    services = compose["services"]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        places = {"/run/demo": str(scratch), "/manifests": str(folder / "demo/compose")}
        for name in ("filter", "translate"):
            words = services[name]["command"]
            for inside, outside in places.items():
                words = [word.replace(inside, outside, 1) if word.startswith(inside) else word for word in words]
            subprocess.run([product, *words], check=True)
        config = json.loads((scratch / "bootstrap.json").read_text())
        ports, envoys = {}, Envoys(envoy, scratch)
        try:
            for name, service in services.items():
                for alias in service.get("networks", {}).get("default", {}).get("aliases", []):
                    ports[alias] = free_port()
                    file = pathlib.Path(service["command"][2]).name
                    backend = yaml.safe_load((folder / "demo/compose/containers" / file).read_text())
                    envoys.start(name, on_port(backend, ports[alias]), service.get("environment", {}))
            used = set()
            for cluster in config["static_resources"]["clusters"]:
                for locality in cluster["load_assignment"]["endpoints"]:
                    for endpoint in locality["lb_endpoints"]:
                        address = endpoint["endpoint"]["address"]["socket_address"]
                        used.add(address["address"])
                        if address["address"] not in ports or address["port_value"] != 8080:
                            fail(f"{address} is no container of the compose file")
                        address.update(address="127.0.0.1", port_value=ports[address["address"]])
            if used != set(ports):
                fail(f"containers {set(ports)}, but the configuration uses {used}")
            config["admin"]["address"]["socket_address"].update(address="127.0.0.1", port_value=0)
            ports["envoy"] = free_port()
            envoys.start("envoy", on_port(config, ports["envoy"]), {})
            for port in ports.values():
                envoys.await_port(port)
            asked = commands((folder / "README.md").read_text())
            if len(asked) < 5:
                fail(f"envoy/README.md has only {len(asked)} curl commands")
            for command, expected in asked:
                here = command.replace("127.0.0.1:8080", f"127.0.0.1:{ports['envoy']}")
                if here == command:
                    fail(f"`{command}` does not ask 127.0.0.1:8080")
                done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=PATIENCE)
                printed = done.stdout.replace(f":{ports['envoy']}", ":8080").replace("\r", "").strip("\n")
                if printed != expected.strip("\n"):
                    fail(f"{command}\nprints\n{printed}\nand not\n{expected}\n{done.stderr}")
                print(f"  ok  {command}")
        finally:
            envoys.stop()


main()
