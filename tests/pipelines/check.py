"""config/pipelines against the schemas of Kubernetes and of Argo Workflows, read strictly: a misspelt key fails.

    tests/pipelines/check.py VERSION_OF_KUBERNETES...
"""
import copy
import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from hera.workflows.models import Workflow

PIPELINES = Path(__file__).resolve().parent.parent.parent / "config/pipelines"


def job(document, versions):
    assert document["kind"] == "Job", document
    for version in versions:
        kubernetes_validate.validate(document, version, strict=True)


def workflow(document, _):
    """What is unknown is dropped when it is read, so it is missed in what is written again."""
    read = Workflow.model_validate(document)
    written = json.loads(read.model_dump_json(by_alias=True, exclude_none=True))
    assert written == document, (document, written)


def stage(document, versions):
    """Spinnaker has no schema that a program can have. These are the keys of its Run Job (Manifest) stage."""
    known = {"type", "name", "refId", "requisiteStageRefIds", "account", "credentials", "cloudProvider", "application",
             "alias", "source", "failPipeline", "continuePipeline", "completeOtherBranchesThenFail", "manifest"}
    assert set(document) == known, set(document) ^ known
    assert (document["type"], document["source"]) == ("runJobManifest", "text"), document
    job(document["manifest"], versions)


def fails(check, document, versions):
    try:
        check(document, versions)
    except Exception:
        return True
    return False


def misspelt(document, key):
    """A copy in which that key has another name, wherever it stands."""
    if isinstance(document, list):
        return [misspelt(inner, key) for inner in document]
    if not isinstance(document, dict):
        return copy.copy(document)
    return {("x" + name if name == key else name): misspelt(inner, key) for name, inner in document.items()}


def main():
    versions = sys.argv[1:]
    assert versions, __doc__
    checks = {"argo-cd-presync.yaml": job, "argo-workflow.yaml": workflow, "spinnaker-stage.json": stage}
    found = {path.name for path in PIPELINES.iterdir() if path.suffix in (".yaml", ".json")}
    assert found == set(checks), found ^ set(checks)
    for name, check in checks.items():
        # JSON is YAML.
        document = yaml.safe_load((PIPELINES / name).read_text())
        check(document, versions)
        # So it does complain where there is something to complain about.
        for key in ("activeDeadlineSeconds", "readOnlyRootFilesystem", "secretName", "mountPath"):
            assert fails(check, misspelt(document, key), versions), f"{name}: {key} is not missed"
        print(f"  {name}")


main()
