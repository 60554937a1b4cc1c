"""Who may ask the page's server, and what it gives away: hosts, origins, headers, errors, files."""

from __future__ import annotations

import pytest
from layers import ADDRESS, page
from starlette.testclient import TestClient

import atlas
from atlas.web import answers
from atlas.web.app import make_app
from atlas.web.viewed import Viewed


@pytest.fixture(scope="module")
def client(toy):
    with page(toy) as opened:
        yield opened


def error(response):
    """The sentence of an error, which is all that is said."""
    assert response.headers["content-type"].startswith("application/json")
    ((key, sentence),) = response.json().items()
    assert key == "error"
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:8765", "LocalHost:8765", "[::1]:8765"]
)
def test_its_own_names_are_answered(client, host):
    assert client.get("/api/atlas", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8765",
        "127.0.0.1:8765.evil.example", "user@127.0.0.1:8765", "127.1:8765", "0.0.0.0:8765", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/api/atlas", "/static/atlas.js", "/nothing"])
def test_other_hosts_are_refused(client, host, path):
    # A page of evil.example whose name was made to mean 127.0.0.1 sends its own name.
    response = client.get(path, headers={"Host": host})
    assert response.status_code == 421
    error(response)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:8765", "file://",
     "http://127.0.0.1:8766", "http://127.0.0.1:8765.evil.example"],
)  # fmt: skip
def test_other_origins_are_refused(client, origin):
    for ask in (client.get, client.post, client.options):
        response = ask("/api/atlas", headers={"Origin": origin})
        assert response.status_code == 403
        error(response)
    response = client.post("/api/sql", json={"query": "select 1"}, headers={"Origin": origin})
    assert response.status_code == 403


def test_its_own_origin_is_answered(client):
    headers = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/atlas", headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_are_refused(client, site):
    # Requests without Origin: of images, scripts, links.
    for path in ("/api/atlas", "/static/atlas.js", "/"):
        response = client.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"})
        assert response.status_code == 403
        error(response)


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client):
    followed = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert client.get("/", headers=followed).status_code == 200
    assert client.get("/api/atlas", headers=followed).status_code == 403
    assert client.get("/", headers={**followed, "Sec-Fetch-Dest": "iframe"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/api/atlas", "/static/atlas.js", "/api/feature", "/nothing"]
)
@pytest.mark.parametrize("host", ["127.0.0.1:8765", "evil.example"])
def test_every_answer_says_what_may_be_done_with_it(client, path, host):
    headers = client.get(path, headers={"Host": host}).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]
    assert "server" not in headers


def test_files_of_the_page_alone_are_served(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/static/atlas.js").headers["content-type"].startswith("text/javascript")
    for name in (
        "../app.py", "..%2fapp.py", "%2e%2e/app.py", "..\\app.py", "%2fetc%2fpasswd", "atlas.js%00",
        "./atlas.js/", "", ".", "ATLAS.JS.py", "//etc/passwd", "nothing.js",
    ):  # fmt: skip
        response = client.get(f"/static/{name}")
        assert response.status_code == 404, name
        assert b"import" not in response.content


def test_methods_are_as_stated(client):
    assert client.post("/api/atlas").status_code == 405
    assert client.get("/api/sql").status_code == 405
    assert client.delete("/api/feature").status_code == 405
    error(client.put("/api/atlas"))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_forms_of_other_sites_cannot_post(client, kind):
    body = b'{"query": "select 1"}'
    response = client.post("/api/sql", content=body, headers={"Content-Type": kind})
    assert response.status_code == 415
    error(response)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(client, body):
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/sql", content=body, headers=headers)
    assert response.status_code == 400
    error(response)


def test_a_body_too_large_is_refused(client):
    response = client.post("/api/sql", json={"query": "x" * 300_000})
    assert response.status_code == 413
    error(response)


@pytest.mark.parametrize(
    "name",
    ["nobody/0-resid_post/1", "'; drop table features; --", "a\0b", "x" * 20_000, "-1", "9" * 40],
)
def test_names_that_are_none_are_told(client, name):
    for path in ("/api/feature", "/api/neighbours", "/api/lineage"):
        response = client.get(path, params={"name": name})
        assert response.status_code in (400, 404)
        error(response)


def test_a_fault_tells_the_terminal_and_not_the_page(toy, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("secret of /home/somebody")

    monkeypatch.setitem(answers.GETS, "/api/atlas", broken)
    with atlas.open(toy) as opened:
        app = make_app(Viewed(opened), 8765)
        with TestClient(app, ADDRESS, raise_server_exceptions=False) as client:
            response = client.get("/api/atlas")
    assert response.status_code == 500
    assert "secret" not in error(response)
    assert "x-content-type-options" in response.headers
    assert "secret of /home/somebody" in capsys.readouterr().err
