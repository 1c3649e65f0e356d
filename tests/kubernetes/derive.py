"""What is made of other shipped files: the rules for the Prometheus operator, and the pods for `podman play kube`.

    tests/kubernetes/derive.py            fails if a file is not what it is made of
    tests/kubernetes/derive.py --write    makes them anew
    tests/kubernetes/derive.py --unlocking    prints a pod with the container of breakglass/unlock.yaml

podman 4.3 differs from Kubernetes. Its pods are those of the StatefulSets with these changes, and no other:
- It knows no StatefulSet: the pod NAME-0. It makes a volume for each claim, as NAME's claims are named, and gives it to the
  user of the first container that mounts it, since it has no fsGroup.
- It writes the files of a Secret as base64: they come from a ConfigMap of the same name.
- It knows no native sidecars, and would wait for one to end: they become the first containers, in the same order.
- It expands no $(POD_NAME): the name stands there.
- It restarts init containers that have ended if the pod restarts its containers: restartPolicy is Never.
- It would look for the images in a registry: imagePullPolicy is Never.
- It probes by timers of systemd, which not every machine has: there are no probes. Affinity means nothing on one machine.
- A volume gets the owner and the mode of the image's directory, and no fsGroup: the pod is in the group 65533, which lets
  the proxy enter the directory of the emergency signer's sockets.
- It is played in the network of the machine, where podman takes no list of ports.
"""
import sys
from pathlib import Path

import yaml

CONFIG = Path(__file__).resolve().parent.parent.parent / "config"
KUBERNETES = CONFIG / "kubernetes"
MADE = "# Made by tests/kubernetes/derive.py --write; change what it is made of:\n# {}.\n"
LEFT_OUT = ("startupProbe", "livenessProbe", "readinessProbe", "restartPolicy", "ports")


def rules():
    """The groups of both files, as they stand there."""
    out = MADE.format("config/prometheus/alerts.yml and recording.yml")
    out += "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: signing-proxy\nspec:\n  groups:\n"
    for name in ("recording.yml", "alerts.yml"):
        _, groups = (CONFIG / "prometheus" / name).read_text().split("\ngroups:\n")
        out += "".join(f"  {line}\n" if line else "\n" for line in groups.rstrip("\n").split("\n"))
    return out


def named(value, pod):
    """The same with the pod's name in it."""
    if isinstance(value, list):
        return [named(inner, pod) for inner in value]
    if isinstance(value, dict):
        return {key: named(inner, pod) for key, inner in value.items()}
    return value.replace("$(POD_NAME)", pod) if isinstance(value, str) else value


def container(given):
    made = {key: value for key, value in given.items() if key not in LEFT_OUT}
    made["imagePullPolicy"] = "Never"
    if "env" in made:
        made["env"] = [variable for variable in made["env"] if "valueFrom" not in variable]
        if not made["env"]:
            del made["env"]
    return made


def keygen():
    """The claim, which podman makes by itself, is left out. The volume belongs to the image's user: there is no fsGroup."""
    path = KUBERNETES / "breakglass/keygen.yaml"
    _, given = yaml.safe_load_all(path.read_text())
    spec = {key: value for key, value in given["spec"].items() if key != "automountServiceAccountToken"}
    spec["securityContext"] = {key: value for key, value in spec["securityContext"].items() if key != "fsGroup"}
    spec["containers"] = [dict(one, imagePullPolicy="Never") for one in spec["containers"]]
    metadata = {"name": given["metadata"]["name"]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    out = MADE.format("config/kubernetes/breakglass/keygen.yaml. docs/operating/kubernetes.md says how to play it")
    return out + yaml.safe_dump(document, sort_keys=False, width=120)


def unlocking():
    """A pod with the container that `kubectl debug` makes of unlock.yaml, for the schemas."""
    custom = yaml.safe_load((KUBERNETES / "breakglass/unlock.yaml").read_text())
    assert set(custom) == {"securityContext", "volumeMounts"}, custom
    volumes = [{"name": mount["name"], "emptyDir": {}} for mount in custom["volumeMounts"]]
    debugger = {"name": "debugger", "image": "signing-proxy", "command": ["/usr/bin/signctl"], **custom}
    spec = {"containers": [{"name": "other", "image": "other"}], "ephemeralContainers": [debugger], "volumes": volumes}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "unlocking"}, "spec": spec})


def volume_of(given):
    if "secret" not in given:
        return given
    return {"name": given["name"], "configMap": {"name": given["secret"]["secretName"]}}


def pod(source):
    path = KUBERNETES / source / "statefulset.yaml"
    (given,) = yaml.safe_load_all(path.read_text())
    name = given["metadata"]["name"] + "-0"
    template = given["spec"]["template"]
    spec = dict(template["spec"])
    for key in ("affinity", "serviceAccountName", "automountServiceAccountToken"):
        del spec[key]
    spec["securityContext"] = {key: value for key, value in spec["securityContext"].items() if not key.startswith("fsGroup")}
    spec["securityContext"]["supplementalGroups"] = [65533]
    inits = spec["initContainers"]
    is_sidecar = [one.get("restartPolicy") == "Always" for one in inits]
    first = is_sidecar.index(True) if any(is_sidecar) else len(inits)
    assert all(is_sidecar[first:]), "an init container behind a sidecar would run too early"
    spec["initContainers"] = [container(one) for one in inits[:first]]
    spec["containers"] = [container(one) for one in inits[first:] + spec["containers"]]
    spec["restartPolicy"] = "Never"
    spec["volumes"] = [volume_of(given) for given in spec["volumes"]]
    for claim in given["spec"]["volumeClaimTemplates"]:
        volume = claim["metadata"]["name"]
        spec["volumes"].append({"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}"}})
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": named(spec, name)}
    out = MADE.format(f"config/kubernetes/{source}/statefulset.yaml. docs/operating/kubernetes.md says how to play it")
    return out + yaml.safe_dump(document, sort_keys=False, width=120)


def monitored(source):
    """A PodMonitor names the labels and the ports of the pods beside it."""
    (monitor,) = yaml.safe_load_all((KUBERNETES / source / "podmonitor.yaml").read_text())
    (given,) = yaml.safe_load_all((KUBERNETES / source / "statefulset.yaml").read_text())
    template = given["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"], source
    containers = template["spec"]["initContainers"] + template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for one in containers for port in one.get("ports", [])}
    jobs = {}
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        assert set(endpoint) == {"port", "path", "relabelings"}, endpoint
        (relabeling,) = endpoint["relabelings"]
        assert set(relabeling) == {"targetLabel", "replacement", "action"}, relabeling
        jobs[relabeling["replacement"]] = ports[endpoint["port"]]
    assert jobs == {"signing-proxy": 9464, "signing-trail": 9465}, jobs


def main():
    for source in ("sidecar", "gateway"):
        monitored(source)
    files = {
        KUBERNETES / "monitoring/prometheusrule.yaml": rules(),
        KUBERNETES / "podman/sidecar.yaml": pod("sidecar"),
        KUBERNETES / "podman/gateway.yaml": pod("gateway"),
        KUBERNETES / "podman/keygen.yaml": keygen(),
    }
    if sys.argv[1:] == ["--unlocking"]:
        return print(unlocking())
    for path, made in files.items():
        if sys.argv[1:] == ["--write"]:
            path.write_text(made)
        elif not path.exists() or path.read_text() != made:
            sys.exit(f"{path.relative_to(CONFIG.parent)} is not what it is made of: run tests/kubernetes/derive.py --write")
    # They are read as YAML all the same.
    for path in files:
        assert list(yaml.safe_load_all(path.read_text())), path


main()
