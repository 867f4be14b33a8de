"""The team server of ``cluster/mlflow``: its command for real, with PostgreSQL and an S3 store.

The S3 store is moto's, a stand-in in memory that speaks the protocol. Containers are not started.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import boto3
import psycopg2
import pytest
import yaml
from mlflow import MlflowClient
from mlflow_server import Server, free_port
from moto.server import ThreadedMotoServer

from convbert.pretrain.tracking.records import NestedRun, now
from convbert.pretrain.tracking.stopped_run import sync
from convbert.pretrain.tracking.tracker import open_tracker

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[2] / "cluster" / "mlflow"
PASSWORD = "secret"


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def variables():
    lines = (FOLDER / "example.env").read_text().splitlines()
    return dict(re.findall(r"^#?([A-Z_0-9]+)=(.*)$", "\n".join(lines), re.MULTILINE))


def filled(text, values):
    """Put values in place of ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``."""
    return re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda found: values[found[1]], text)


def options(values):
    """Return what the command has beside address and port."""
    program, action, host, port, *rest = compose()["services"]["mlflow"]["command"]
    assert (program, action, host, port) == ("mlflow", "server", "--host=0.0.0.0", "--port=5000")
    return [filled(option, values) for option in rest]


def test_the_files_fit_together():
    content = compose()
    services = content["services"]
    assert set(services) == {"postgres", "objects", "bucket", "mlflow"}
    for service in services.values():
        assert set(service.get("depends_on", [])) <= set(services)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in content["volumes"]
    named = set(re.findall(r"(?<!\$)\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    assert named == set(variables())
    unit = (FOLDER / "mlflow.service").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=/opt/mlflow/bin/(.*)$", unit, re.MULTILINE)
    given = [re.sub(r":\?[^}]*", "", option) for option in services["mlflow"]["command"]]
    assert shlex.split(command) == given


@pytest.fixture
def postgres():
    """Start PostgreSQL for one test, as its own user where this is root; yields the port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.fail("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    (folder / "password").write_text(PASSWORD)
    if user:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")
    port = free_port()

    def call(program, *arguments):
        command = [*user, str(programs[-1] / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    call("initdb", "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    call("pg_ctl", "-o", settings, "-l", str(folder / "log"), "-w", "start")
    try:
        where = {"host": "127.0.0.1", "port": port, "user": "mlflow", "password": PASSWORD}
        connection = psycopg2.connect(dbname="postgres", **where)
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE mlflow")
        connection.close()
        yield port
    finally:
        call("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def bucket(monkeypatch):
    """An S3 store with the bucket ``mlflow``; yields it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mlflow")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
    found = boto3.resource("s3", endpoint_url=address).Bucket("mlflow")
    found.create()
    yield found
    server.stop()


def answer(url, host):
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0")
    request.add_header("Host", host)
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_a_run_on_postgresql_and_an_object_store(postgres, bucket, tmp_path, monkeypatch):
    values = {**variables(), "POSTGRES_PASSWORD": PASSWORD}
    values["ALLOWED_HOSTS"] += ",127.0.0.1:*"
    uri = compose()["services"]["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": filled(uri, values).replace(
            "@postgres:5432", f"@127.0.0.1:{postgres}"
        )
    }
    server = Server(tmp_path, options(values), environment)
    server.start()
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)  # a client knows nothing but the address
    try:
        tracker = open_tracker(
            tmp_path / "run",
            enabled=True,
            experiment="team",
            run_name="shared",
            tracking_uri=server.url,
            params={"seed": 0},
            tags={},
            resume_step=None,
        )
        for step in range(1, 1501):
            tracker.log(step, step * 1e12, {"loss": 1.0 / step})
            if step == 700:
                server.kill()
                server.start()
        tracker.nested(NestedRun("mood-0", "mood, seed 0", now(), 30.0))
        tracker.curve_point(1e12, "mood/accuracy", 0.7, within="mood-0")
        picture = tmp_path / "run" / "curve.png"
        picture.write_bytes(b"picture")
        tracker.artifact(picture)
        tracker.close("FINISHED")
        sync(tmp_path / "run")

        client = MlflowClient(server.url)
        experiment = client.get_experiment_by_name("team").experiment_id
        nested, run = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
        if run.info.run_name != "shared":
            nested, run = run, nested
        history = client.get_metric_history(run.info.run_id, "loss")
        assert Counter(m.step for m in history) == Counter(range(1, 1501))
        assert nested.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        (stored,) = bucket.objects.all()
        assert stored.key.endswith(f"{run.info.run_id}/artifacts/curve.png")
        got = client.download_artifacts(run.info.run_id, "curve.png", str(tmp_path))
        assert Path(got).read_bytes() == b"picture"
        assert answer(server.url, "mlflow.example.org:5000") == 200
        assert answer(server.url, "elsewhere.example.org") == 403
    finally:
        server.kill()
