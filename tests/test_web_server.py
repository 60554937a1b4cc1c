"""`atlas view` as a real process: its address, its end, and requests that nobody waits for."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from urllib.parse import urlencode

import pytest
from layers import page

import atlas
from atlas.web import answers, viewed
from tests.commandline import COMMAND, environment, invoke, process


@contextmanager
def viewing(*words):
    """The running process and its address; ended by Ctrl-C."""
    running = subprocess.Popen(
        [*COMMAND, "view", *map(str, words), "--no-browser"],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = running.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + running.stderr.read()
        yield running, address[0]
    finally:
        running.kill()
        running.communicate()


def get(address, **parameters):
    with urllib.request.urlopen(f"{address}?{urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)


def test_it_answers_and_ends_with_ctrl_c(toy):
    with viewing(toy) as (running, address):
        assert get(f"{address}api/atlas")["name"] == "toy"
        assert get(f"{address}api/feature", name="3")["card"]["feature_id"] == 3
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{address}api/feature", name="nobody/0-resid_post/1")
        assert refused.value.code == 404
        assert refused.value.headers["Content-Security-Policy"]
        request = urllib.request.Request(f"{address}api/atlas", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 421
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
        assert (running.returncode, out, err) == (0, "", "")


def test_only_this_machine_is_served(toy):
    with viewing(toy) as (_, address):
        port = int(re.search(r":(\d+)/", address)[1])
        with closing(socket.socket()) as outside:  # any other address of this machine
            outside.settimeout(2)
            assert outside.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_that_is_taken(toy):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = process("view", toy, "--port", port, "--no-browser")
    assert result.returncode == 1
    assert str(port) in result.stderr
    assert "leave out --port" in result.stderr


def test_two_at_once_get_ports_of_their_own(toy):
    with viewing(toy) as (_, first), viewing(toy) as (_, second):
        assert first != second
        assert get(f"{second}api/atlas")["name"] == "toy"


def test_no_atlas_is_told(tmp_path):
    result = invoke("view", tmp_path / "none.atlas", "--no-browser")
    assert result.exit_code == 1
    assert "There is no atlas" in result.stderr


def test_what_nobody_waits_for_is_stopped(toy, monkeypatch):
    ended = []

    def endless(_, connection, __):
        try:
            return connection.rows(
                "select count(*) from range(10000000000000) t(i) where i % 7 = 3"
            )
        finally:
            ended.append(time.monotonic())

    monkeypatch.setitem(answers.GETS, "/api/atlas", endless)
    monkeypatch.setattr("atlas.web.app.SECONDS", 0.5)
    with page(toy) as client:
        response = client.get("/api/atlas")
        assert response.status_code == 504
        assert "longer than" in response.json()["error"]
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            time.sleep(0.05)
    assert ended


def test_a_client_that_goes_away_stops_its_query(toy):
    slow = {"query": "select count(*) from range(10000000000000) t(i) where i % 7 = 3"}
    with viewing(toy) as (running, address):
        body = json.dumps(slow)
        port = int(re.search(r":(\d+)/", address)[1])
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            client.sendall(
                f"POST /api/sql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                f"{body}".encode()
            )
            assert _soon(lambda: _children(running.pid))
        assert _soon(lambda: not _children(running.pid))


def test_ctrl_c_ends_what_is_being_answered(toy):
    slow = {"query": "select count(*) from range(10000000000000) t(i) where i % 7 = 3"}
    with viewing(toy) as (running, address):
        body = json.dumps(slow).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}api/sql", body, headers)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(urllib.request.urlopen, request, timeout=30)
            assert _soon(lambda: _children(running.pid))
            running.send_signal(signal.SIGINT)
            assert asked.exception(timeout=30) is not None
        assert running.wait(timeout=15) == 0
        assert "Traceback" not in running.stderr.read()


def test_stopping_ends_every_later_query_too(toy):
    with atlas.open(toy) as opened:
        connection = viewed.Viewed(opened).connect()

        def twice(one):
            connection.stop()
            time.sleep(0.2)
            return one.rows("select count(*) from range(10000000000000) t(i) where i % 7 = 3")

        with pytest.raises(viewed.Stopped):
            connection.answer(twice)


def test_what_was_stopped_before_it_began_never_begins(toy):
    with atlas.open(toy) as opened:
        connection = viewed.Viewed(opened).connect()
        connection.stop()
        with pytest.raises(viewed.Stopped):
            connection.answer(lambda one: one.rows("select 1"))
        assert not [one for one in threading.enumerate() if one.name == "atlas-stop"]


def _children(pid):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.split()


def _soon(condition):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False
