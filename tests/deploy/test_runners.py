"""Runners: what a job gets, per trust tier, from the scale set's values and from the machine's unit."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import units

RUNNERS = Path(__file__).parents[2] / "deploy/runners"
TIERS = ("pull-request", "merge", "fork")
UNIT = RUNNERS / "vm/switchback-runner.service"


def documents(name):
    return list(YAML(typ="safe").load_all(RUNNERS / name))


def merged(below, above):
    """As helm merges values files: maps by key, anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


@pytest.fixture(params=TIERS)
def tier(request):
    return request.param


@pytest.fixture
def values(tier):
    (shared,), (own,) = documents("scale-set.yaml"), documents(f"{tier}.yaml")
    return merged(shared, own)


@pytest.fixture
def pod(values):
    return values["template"]["spec"]


@pytest.fixture
def runner(pod):
    (container,) = pod["containers"]
    return container


def test_idle_set_costs_nothing_and_a_busy_one_has_a_limit(values):
    assert values["minRunners"] == 0
    assert 1 <= values["maxRunners"] <= 2


def test_tiers_share_neither_name_nor_group_nor_nodes():
    each = [documents(f"{tier}.yaml")[0] for tier in TIERS]
    for key in ("runnerScaleSetName", "runnerGroup"):
        assert len({values[key] for values in each}) == len(TIERS)
    assert {values["template"]["spec"]["nodeSelector"]["switchback/tier"] for values in each} == set(TIERS)


def test_tier_changes_nothing_but_its_name_its_size_and_its_nodes(tier):
    (own,) = documents(f"{tier}.yaml")
    assert set(own) == {"runnerScaleSetName", "runnerGroup", "maxRunners", "template"}
    assert set(own["template"]["spec"]) <= {"nodeSelector", "runtimeClassName"}


def test_only_pull_requests_run_where_a_machine_may_be_taken_away(values, tier):
    preemptible = values["template"]["spec"]["nodeSelector"]["switchback/preemptible"]
    assert preemptible == ("false" if tier == "merge" else "true"), "and a label's value is a text"


def test_job_has_no_docker_no_cluster_and_no_root(values, pod, runner):
    assert "containerMode" not in values, "both its modes widen what a job may do"
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    # What Pod Security's level "restricted" asks for.
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert runner["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_job_has_one_gpu_and_cannot_take_the_node(runner):
    assert runner["resources"]["limits"]["nvidia.com/gpu"] == 1
    for kind in ("memory", "ephemeral-storage"):
        assert runner["resources"]["limits"][kind] == runner["resources"]["requests"][kind]


def test_nothing_that_a_job_writes_reaches_the_next_one(pod, runner):
    assert all(mount["readOnly"] is True for mount in runner["volumeMounts"])
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert all(claim["readOnly"] is True for claim in claims)
    assert {mount["name"] for mount in runner["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_image_is_pinned_and_no_secret_is_in_the_values(values, runner):
    assert re.fullmatch(r"ghcr\.io/actions/actions-runner:[\d.]+@sha256:[0-9a-f]{64}", runner["image"])
    assert isinstance(values["githubConfigSecret"], str), "the name of one, not its content"
    assert all("valueFrom" not in variable for variable in runner["env"])


def test_training_is_drained_before_the_runner_is_told(pod, runner):
    shell, script, process = runner["lifecycle"]["preStop"]["exec"]["command"]
    (mount,) = [mount for mount in runner["volumeMounts"] if mount["name"] == "drain"]
    assert (shell, script, process) == ("/bin/sh", f"{mount['mountPath']}/drain", "1")
    assert (RUNNERS / "drain").exists()
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_namespace_of_every_tier_refuses_what_is_not_restricted():
    namespaces = documents("namespaces.yaml")
    assert {one["metadata"]["name"] for one in namespaces} == {f"runners-{tier}" for tier in TIERS}
    for one in namespaces:
        assert one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_runner_reaches_the_outside_by_tls_and_nothing_inside():
    policy, quota = documents("limits.yaml")
    assert policy["spec"]["podSelector"] == {}
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["spec"]["ingress"] == []
    names, outside = policy["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert [port["port"] for port in outside["ports"]] == [443]
    (block,) = [peer["ipBlock"] for peer in outside["to"]]
    assert {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])
    assert int(quota["spec"]["hard"]["requests.nvidia.com/gpu"]) >= max(
        documents(f"{tier}.yaml")[0]["maxRunners"] for tier in TIERS
    )


def test_kubernetes_knows_every_field(values, tier):
    schemas = pytest.importorskip("kubernetes_validate", reason="the package kubernetes-validate has the schemas")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": tier}, "spec": values["template"]["spec"]}
    for document in (pod, *documents("namespaces.yaml"), *documents("limits.yaml")):
        assert schemas.validate(document, "1.31", strict=True)
    pod["spec"]["restartPolicies"] = "Never"
    with pytest.raises(schemas.ValidationError):
        schemas.validate(pod, "1.31", strict=True)


@pytest.fixture
def unit():
    return units.read(UNIT)


def test_machine_takes_one_job_and_is_gone(unit):
    assert unit["Unit"]["SuccessAction"] == unit["Unit"]["FailureAction"] == "poweroff"
    assert unit["Service"]["Restart"] == "no"
    assert "--jitconfig" in unit["Service"]["ExecStart"]
    assert unit["Service"]["RuntimeMaxSec"].endswith("h")


def test_machine_drains_training_before_the_runner_is_told(unit):
    assert unit["Service"]["ExecStop"] == "/usr/local/bin/drain-runner $MAINPID"
    assert int(unit["Service"]["TimeoutStopSec"]) >= 60
    assert unit["Service"]["KillMode"] == "mixed"


def test_machine_gives_the_job_neither_root_nor_its_own_credentials(unit):
    service = unit["Service"]
    assert service["User"] == "runner"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert {"169.254.0.0/16", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16"} <= {*service["IPAddressDeny"].split()}
    (home,) = [word for word in service["Environment"].split() if word.startswith("HOME=")]
    assert home == f"HOME={service['ReadWritePaths']}", "all other homes are hidden from it"
    assert service["LoadCredential"].startswith("jitconfig:"), "no variable, no argument of systemd"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path):
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/drain-runner", "/bin/true")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def github(tmp_path, monkeypatch):
    """A `gh` that writes down what it is asked."""
    program = tmp_path / "gh"
    script = f"import json, sys; json.dump(sys.argv, open({str(tmp_path / 'asked')!r}, 'w'))"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "asked"


def test_registration_is_asked_for_with_all_that_github_wants(github):
    words = ["sh", RUNNERS / "vm/jitconfig", "owner/repository", "gpu-7", "3", "self-hosted", "gpu; rm -rf x"]
    assert subprocess.run(words).returncode == 0
    _, *asked = json.loads(github.read_text())
    assert asked[:4] == ["api", "--method", "POST", "repos/owner/repository/actions/runners/generate-jitconfig"]
    fields = [(flag, value) for flag, value in itertools.pairwise(asked) if flag in ("--field", "--raw-field")]
    assert set(fields) == {
        ("--raw-field", "name=gpu-7"),
        ("--field", "runner_group_id=3"),
        ("--raw-field", "work_folder=_work"),
        ("--raw-field", "labels[]=self-hosted"),
        ("--raw-field", "labels[]=gpu; rm -rf x"),
    }


def test_registration_without_a_label_is_refused(github):
    done = subprocess.run(
        ["sh", RUNNERS / "vm/jitconfig", "owner/repository", "x", "1"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "usage: jitconfig" in done.stderr
    assert not github.exists()
