"""Checks the Helm chart and the plain manifests: lint, rendering, Kubernetes' OpenAPI schemas.

usage: kubernetes.py CHART PLAIN... [--write]

CHART is the chart's directory; its ci/*.yaml are values to render it with. PLAIN are directories of plain
manifests, which have to be what the chart renders from PLAIN/values.yaml; with --write they are made so.
Every complaint is a line on standard error, and the exit status says whether there were any.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

# The oldest that the chart takes and what is current at either end of what clusters run.
VERSIONS = ["1.29", "1.33", kubernetes_validate.latest_version()]

# Kinds that are no part of Kubernetes: their schemas are not among Kubernetes'.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

# What `kubectl apply` goes by, and a person reads by.
ORDER = ["Namespace", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "ConfigMap", "ClusterRole",
         "ClusterRoleBinding", "Role", "RoleBinding", "Service", "DaemonSet", "Deployment",
         "HorizontalPodAutoscaler", "IngressClass", "ValidatingWebhookConfiguration"]

# Labels that say Helm made it, which is not so of the plain manifests.
OF_HELM = ("helm.sh/chart: ", "app.kubernetes.io/managed-by: ")

complaints = []


def complain(text):
    complaints.append(text)
    print(f"error: {text}", file=sys.stderr)


class Binary:
    """A `helm` on the PATH."""

    def __init__(self, chart):
        self.chart = chart
        version = subprocess.run(["helm", "version", "--short"], capture_output=True, text=True, check=True)
        self.name = f"helm {version.stdout.strip()}"

    def run(self, words, values):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            return subprocess.run(["helm", *words, "--values", file.name], capture_output=True, text=True)

    def lint(self, values):
        done = self.run(["lint", "--strict", self.chart], values)
        return [] if done.returncode == 0 else [done.stdout + done.stderr]

    def render(self, values, name, namespace):
        words = ["template", name, self.chart, "--namespace", namespace, "--kube-version", VERSIONS[0] + ".0"]
        done = self.run(words, values)
        if done.returncode != 0:
            raise ValueError(done.stderr.strip())
        return done.stdout


class Library:
    """Helm as a library, out of a wheel."""

    def __init__(self, chart):
        import helm_python

        self.helm = helm_python
        self.chart = chart
        self.name = f"Helm {helm_python.helm_sdk_version()} of helm-python-sdk"

    def lint(self, values):
        report = self.helm.lint(self.chart, values, strict=True)
        found = [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]
        return found + list(report["errors"] or [])

    def render(self, values, name, namespace):
        with self.helm.Chart.load(self.chart) as chart:
            try:
                chart.validate_schema(values)
                files = chart.render(values, name=name, namespace=namespace)
            except self.helm.HelmError as error:
                raise ValueError(str(error)) from error
        texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
        return "\n---\n".join(texts)


def objects(text):
    return [document for document in yaml.safe_load_all(text) if document]


def validate(where, document):
    kind, name = document.get("kind"), document.get("metadata", {}).get("name")
    if kind in FOREIGN:
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            complain(f"{where}: {kind} {name}, Kubernetes {version}: {path}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            complain(f"{where}: {kind} {name}: {error.message}")


def references(where, documents):
    """What one object says of another has to be so."""
    names = {(d["kind"], d["metadata"]["name"]) for d in documents}
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        template = document.get("spec", {}).get("template")
        if kind == "Service" or kind == "PodDisruptionBudget" or kind == "NetworkPolicy":
            spec = document["spec"]
            selector = spec.get("selector") or spec.get("podSelector")
            selector = selector.get("matchLabels", selector)
            pods = [d["spec"]["template"] for d in documents if d["kind"] in ("Deployment", "DaemonSet")]
            if not any(selector.items() <= pod["metadata"]["labels"].items() for pod in pods):
                complain(f"{where}: {kind} {name} selects no pod")
            ports = {p["name"] for pod in pods for c in containers(pod["spec"]) for p in c.get("ports", [])}
            for port in spec.get("ports", []) if kind == "Service" else []:
                if isinstance(port["targetPort"], str) and port["targetPort"] not in ports:
                    complain(f"{where}: Service {name}: no container has a port {port['targetPort']}")
        if kind in ("ClusterRoleBinding", "RoleBinding"):
            role = document["roleRef"]
            if (role["kind"], role["name"]) not in names:
                complain(f"{where}: {kind} {name}: there is no {role['kind']} {role['name']}")
        if template:
            selector = document["spec"]["selector"]["matchLabels"]
            if not selector.items() <= template["metadata"]["labels"].items():
                complain(f"{where}: {kind} {name} does not select its own pods")
            hardened(f"{where}: {kind} {name}", template["spec"])


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def hardened(where, spec):
    """The restricted Pod Security Standard, for the containers of the chart."""
    pod = spec["securityContext"]
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        complain(f"{where}: no seccomp profile")
    if not spec.get("hostNetwork") and not (pod.get("runAsNonRoot") and pod.get("runAsUser")):
        complain(f"{where}: may run as root")
    for container in containers(spec):
        if container["image"].startswith("example"):
            continue
        context = container["securityContext"]
        added = context["capabilities"].get("add", [])
        fine = (context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
                and context["capabilities"]["drop"] == ["ALL"]
                and (not added or (spec.get("hostNetwork") and added == ["NET_BIND_SERVICE"])))
        if not fine:
            complain(f"{where}: container {container['name']} has more rights than it needs: {context}")


def plain(helm, folder, write):
    values = yaml.safe_load((folder / "values.yaml").read_text())
    text = helm.render(values, "ingress-wasm", "ingress-wasm")
    lines = [line for line in text.splitlines()
             if not line.strip().startswith(OF_HELM) and not line.startswith("# Source: ")]
    parts = [part.strip() for part in "\n".join(lines).split("\n---")]
    parts = [part for part in (p.removeprefix("---").strip() for p in parts) if objects(part)]
    parts.sort(key=lambda part: ORDER.index(objects(part)[0]["kind"]))
    head = "# Made by `cargo xtask kubernetes --write` from chart/ingress-wasm and values.yaml.\n"
    text = head + "\n---\n".join(parts) + "\n"
    file = folder / "ingress-wasm.yaml"
    if write:
        file.write_text(text)
    elif not file.exists() or file.read_text() != text:
        complain(f"{file} is not what the chart renders: cargo xtask kubernetes --write")
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    documents = [d for resource in named for d in objects((folder / resource).read_text())]
    for document in documents:
        validate(str(folder), document)
    references(str(folder), documents)
    return len(documents)


def refused(helm):
    """Values that have to be refused, with a word that says why."""
    for values, word in [
        ({"controller": {"replicas": 2}}, "replicas"),
        ({"controller": {"kind": "StatefulSet"}}, "kind"),
        ({"controller": {"terminationGracePeriodSeconds": 60}}, "terminationGracePeriodSeconds"),
        ({"controller": {"containerPort": {"http": 0}}}, "http"),
        ({"controller": {"output": "nginx"}}, "output"),
        ({"controller": {"output": "istio", "hostNetwork": True}}, "hostNetwork"),
        ({"controller": {"output": "istio", "istio": {"namespace": ""}}}, "namespace"),
    ]:
        try:
            helm.render(values, "ingress-wasm", "ingress-wasm")
        except ValueError as error:
            if word not in str(error):
                complain(f"values {values} are refused without a word of {word}: {error}")
        else:
            complain(f"values {values} are not refused")


def covered(helm, chart, variants):
    """Each branch of the templates has to be rendered in some variant: of what never is, nobody knows that it is valid."""
    branch = re.compile(r"\s*\{\{-? *(if|else|with|range)\b.*\}\}")
    marks = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / chart.name
        shutil.copytree(chart, copy)
        for file in sorted((copy / "templates").iterdir()):
            # Helpers give values, in which a comment would be part of the value.
            if file.name in ("_helpers.tpl", "NOTES.txt"):
                continue
            lines, text = [], file.read_text().splitlines()
            for number, line in enumerate(text, 1):
                lines.append(line)
                # Those that refuse values render nothing.
                if branch.fullmatch(line) and "{{- fail " not in text[number]:
                    mark = f"# branch {len(marks)} of the templates"
                    marks[mark] = f"{file.name}:{number}: {line.strip()}"
                    # What an action writes, no `{{-` behind it takes away.
                    lines.append('{{- "\\n' + mark + '\\n" }}')
            file.write_text("\n".join(lines) + "\n")
        marked = type(helm)(os.fspath(copy))
        for values in variants.values():
            text = marked.render(values, "edge", "ingress")
            marks = {mark: where for mark, where in marks.items() if mark + "\n" not in text}
    for where in marks.values():
        complain(f"no values in ci/ render {where}")


def main():
    write = "--write" in sys.argv
    chart, *folders = [pathlib.Path(word) for word in sys.argv[1:] if word != "--write"]
    helm = (Binary if shutil.which("helm") else Library)(os.fspath(chart))
    print(f"{helm.name}; schemas of Kubernetes {', '.join(VERSIONS)}")
    variants = {"default values": {}}
    for file in sorted((chart / "ci").glob("*.yaml")):
        variants[file.name] = yaml.safe_load(file.read_text())
    for name, values in variants.items():
        for finding in helm.lint(values):
            complain(f"{name}: lint: {finding}")
        try:
            documents = objects(helm.render(values, "edge", "ingress"))
        except ValueError as error:
            complain(f"{name}: {error}")
            continue
        for document in documents:
            validate(name, document)
        references(name, documents)
        print(f"  {name}: {len(documents)} objects")
    covered(helm, chart, variants)
    refused(helm)
    for folder in folders:
        print(f"  {folder.parent.name}/{folder.name}: {plain(helm, folder, write)} objects")
    sys.exit(1 if complaints else 0)


main()
