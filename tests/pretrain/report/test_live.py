"""The log is read as it grows, and the page of runs is served on this machine alone."""

import http.client
import json
import math
import re
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from small_runs import FLOPS, HOURS, logged_run

from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.report.live import PageWriter, page_of
from convbert.pretrain.report.log import LogReader
from convbert.pretrain.report.serve import Server, Watch, require_loopback
from convbert.pretrain.report.track import BINS, Thinning
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.tracking.metrics_log import rewind
from convbert.pretrain.tracking.records import StepRecord, encode


def record(step, **values):
    logged = {"speed/step_seconds": 1800.0, "speed/processes": 2.0, "tokens": step * 64.0}
    return StepRecord(step, 1e9 + step, step * FLOPS, logged | values)


def thinned(reader):
    return reader.updates.track(None)


def test_thinning_keeps_means_of_equally_many_updates_and_all_hours():
    thinning = Thinning()
    count = 3 * BINS
    for step in range(1, count + 1):
        lost = {"loss/total": math.nan if step == 7 else float(step)}
        thinning.add(record(step, **lost))
    track = thinning.track(None)
    assert BINS / 2 < len(track.rows) <= BINS
    first, second, last = track.rows[0], track.rows[1], track.rows[-1]
    assert [row.place.step for row in (first, second, last)] == [4, 8, count]
    assert first.values["loss/total"] == 2.5
    assert second.values["loss/total"] == pytest.approx((5 + 6 + 8) / 3)
    # Between the means nothing is lost of the cost.
    assert track.hours_at(7 * FLOPS) == pytest.approx(7.0)
    assert track.at_step(6) == track.at(6 * FLOPS, 6)
    assert (track.at_step(6).tokens, track.at_step(6).hours) == (6 * 64, pytest.approx(6.0))
    assert track.at_step(count + 1) is None


def test_a_log_that_grows_and_is_cut_back_reads_as_a_whole_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    grown = LogReader(path)
    assert grown.read()
    with path.open("ab") as file:
        for step in range(1, 31):
            file.write(encode(record(step, **{"loss/total": float(step)})))
        file.write(encode(record(31))[:20])  # being written
    while not grown.read(most=7):
        assert grown.newest.step % 7 == 0
    assert grown.newest.step == 30
    rewind(path, 12)
    with path.open("ab") as file:
        for step in range(13, 16):
            file.write(encode(record(step, **{"loss/total": -1.0})))
    grown.read()
    whole = LogReader(path)
    whole.read()
    assert thinned(grown).rows == thinned(whole).rows
    assert [row.values["loss/total"] for row in thinned(grown).rows][11:] == [12, -1, -1, -1]
    with path.open("ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(DamagedError, match=r"metrics\.jsonl:16: not a metrics record"):
        grown.read()


def test_the_writer_goes_on_after_a_failure_and_says_how_the_run_ended(tmp_path, caplog):
    run = RunDirectory(logged_run(tmp_path / "run-0", range(1, 5), {}))
    page = page_of(run)
    page.mkdir(parents=True)
    writer = PageWriter(run, 0.05)
    wait_for(lambda: "training goes on" in caplog.text)
    page.rmdir()
    wait_for(page.is_file)
    assert '"refresh":0.05' in page.read_text()
    writer.close("stopped")
    assert '"state":"stopped","refresh":null' in page.read_text()
    assert len(caplog.records) == 1
    assert not list(page.parent.glob(".*"))


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def look(url, path=None, host=None):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request("GET", path or place.path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_watch_shows_what_the_run_says_now_until_it_is_interrupted(tmp_path):
    run = logged_run(tmp_path / "run-0", range(1, 5), {2: 3.5})
    command = [sys.executable, "-m", "convbert.pretrain.cli", "watch", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = re.fullmatch(r"(\S+): (http://127\.0\.0\.1:\d+/\S{12}/)\n", process.stdout.readline())
        url = url[2]
        assert f"ssh -N -L {urlsplit(url).port}:127.0.0.1:" in process.stdout.readline()
        assert process.stdout.readline() == "Ctrl-C ends it\n"
        status, page = look(url)
        assert status == 200
        assert "<strong>finished</strong>" in page
        assert "update 4 of 4" in page
        # The run goes on with more updates, then its log is damaged and mended.
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("steps: 4", "steps: 9"))
        log = run / "metrics.jsonl"
        with log.open("ab") as file:
            file.write(encode(record(5, **{"loss/total": 4.0})))
        assert "<strong>not training</strong> · update 5 of 9" in look(url)[1]
        sound = log.read_bytes()
        log.write_bytes(sound + b"{}\n")
        status, page = look(url)
        assert (status, "metrics.jsonl:7: not a metrics record" in page) == (503, True)
        log.write_bytes(sound)
        assert look(url)[0] == 200
        assert look(url, path="/")[0] == 404
        assert look(url, host="rebound.example")[0] == 403
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output == "ended\n"


def test_watch_listens_for_this_machine_alone(tmp_path):
    run = logged_run(tmp_path / "run-0", range(1, 3), {})
    for host in ("0.0.0.0", "::", "10.1.2.3", "login.example", ""):
        with pytest.raises(UserError, match=f"--host {host}: other machines would reach it"):
            require_loopback(host)
    assert require_loopback("localhost") == "127.0.0.1"
    server = Server(Watch([run], 5.0), require_loopback("127.0.0.1"), 0)
    try:
        with pytest.raises(UserError, match=f"--port {server.server_port}: cannot be used"):
            Server(server.watch, "127.0.0.1", server.server_port)
    finally:
        server.server_close()
    with pytest.raises(UserError, match="not a run directory"):
        Watch([tmp_path], 5.0)


def test_seeds_are_together_and_single_runs_tell_their_settings(tmp_path):
    seeds = [logged_run(tmp_path / f"small-seed-{n}", range(1, 5), {}) for n in (1, 2)]
    other = logged_run(tmp_path / "longer-3", range(1, 9), {})
    page = Watch([*seeds, other], 5.0).page()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["groups"] == [{"name": "small, 2 seeds", "runs": [0, 1]}]
    assert data["runs"][2]["parts"][0]["hours"] == pytest.approx([n * HOURS for n in range(1, 9)])
    assert "<h2>Settings</h2>" not in page
    alone = Watch([other], 5.0).page()
    assert re.search(r"optimizer\.learning_rate</th><td class=.short.>0\.\d+<", alone)
    assert '<details class="fold" id="published">' in alone
