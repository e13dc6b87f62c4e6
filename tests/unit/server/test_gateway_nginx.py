"""The nginx sample lets through what the gateway lets through."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.gateway_http import FORWARDED, PATHS
from server.gateway_limits import Limits
from tests.architecture import ROOT

SAMPLE = ROOT / "docs" / "samples" / "nginx.conf"
TEXT = re.sub(r"(?m)^\s*#.*$", "", SAMPLE.read_text(encoding="utf-8"))
MIB = 1024 * 1024


def values(directive: str) -> list[str]:
    return re.findall(rf"(?m)^\s*{directive}\s+(.*);$", TEXT)


def test_it_knows_the_gateways_paths_and_each_is_a_constant() -> None:
    pairs = re.findall(r'"~\^(/\S+)\$"\s+(\S+);', TEXT)

    assert {target.decode(): path for target, path in PATHS.items()} == dict(pairs)


def test_it_passes_on_the_gateways_headers() -> None:
    passed = [value.split() for value in values("proxy_set_header")]

    assert ["off"] == values("proxy_pass_request_headers")
    assert {name: f"$http_{name.replace('-', '_')}" for name in FORWARDED} == {
        name: value for name, value in passed if name.startswith("flwr-")
    }
    assert {"Host", "Connection", "Accept", "Content-Type"} == {name for name, _ in passed} - FORWARDED


def test_it_asks_for_tls_1_3_and_a_client_certificate_and_gives_no_tickets() -> None:
    names = ("ssl_protocols", "ssl_verify_client", "ssl_session_tickets", "proxy_ssl_verify")

    assert [["TLSv1.3"], ["on"], ["off"], ["on"]] == [values(name) for name in names]


def test_it_has_the_gateways_limits() -> None:
    limits = Limits()

    assert [f"{limits.request_bytes // MIB}m"] == values("client_max_body_size")
    assert [f"$hospital zone=requests:1m rate={limits.requests_per_s:g}r/s"] == values("limit_req_zone")
    assert [f"zone=requests burst={limits.request_burst:g} nodelay"] == values("limit_req")
    assert [f"connections {limits.connections_per_site}"] == values("limit_conn")


def test_it_never_gives_an_answer_on_which_flowers_client_ends_itself() -> None:
    assert {"404", "503"} == set(re.findall(r"(?:return|_status) (\d+)", TEXT))


def test_nginx_takes_it(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    certificates = re.compile(r"(?m)^\s*(?:proxy_)?ssl_(?:trusted_|client_)?certificate(?:_key)? .*;$")
    text = certificates.sub("", SAMPLE.read_text(encoding="utf-8"))
    text = text.replace("ssl_verify_client on;", "").replace("proxy_ssl_verify on;", "").replace("9443 ssl", "9443")
    (tmp_path / "hospitals.map").write_text('"~^8c1fe2:LS0t$" Aarhus;\n')
    path = tmp_path / "nginx.conf"
    path.write_text(text.replace("/etc/nginx", str(tmp_path)).replace("/var/log/nginx", str(tmp_path)))
    done = subprocess.run([nginx, "-t", "-p", tmp_path, "-c", path], capture_output=True, text=True, check=False)

    assert "syntax is ok" in done.stderr
