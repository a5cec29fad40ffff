"""Hosts that are not there, ports that are closed, certificates that are not trusted: one clear error each."""

import dataclasses
import socket
import ssl
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import (
    AssociationError,
    UnreachableError,
)
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles, parse_endpoint
from peers import free_port
from peers.fault_pacs import HttpAnswer, faulty_pacs, faulty_web
from peers.tls_front import make_certificates


@pytest.mark.parametrize("kind", ["dimse", "http"])
def test_an_unknown_host(kind) -> None:
    host = "no-such-host.invalid"
    if kind == "dimse":
        endpoint = DimseEndpoint("", host, 104, "PACS", connect_timeout_s=5)
    else:
        endpoint = DicomWebEndpoint("", f"http://{host}/dicom-web", connect_timeout_s=5)

    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid is unknown"):
        connect(endpoint).verify()


@pytest.mark.parametrize("kind", ["dimse", "http"])
@pytest.mark.parametrize("call", ["verify", "find_studies", "store"])
def test_a_refused_connection(kind, call, images) -> None:
    port = free_port()
    if kind == "dimse":
        endpoint = DimseEndpoint("", "127.0.0.1", port, "PACS")
    else:
        endpoint = DicomWebEndpoint("", f"http://127.0.0.1:{port}/dicom-web")
    client = connect(endpoint)

    with pytest.raises(UnreachableError, match=f"othing listens on 127.0.0.1:{port}"):
        client.store(images) if call == "store" else getattr(client, call)()


def test_a_peer_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = DimseEndpoint("", "127.0.0.1", silent.getsockname()[1], "PACS", association_timeout_s=1)

        with pytest.raises(UnreachableError, match="did not answer within 1 s"):
            connect(endpoint).verify()


def test_a_web_service_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = DicomWebEndpoint("", f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web", timeout_s=0.5)

        with pytest.raises(UnreachableError, match="did not answer in time"):
            connect(endpoint).verify()


def test_a_peer_that_speaks_another_protocol() -> None:
    with faulty_web(lambda _request: HttpAnswer(200)) as web:
        port = int(web.url.rpartition(":")[2].partition("/")[0])

        with pytest.raises((AssociationError, UnreachableError)):
            connect(DimseEndpoint("", "127.0.0.1", port, "PACS", association_timeout_s=2)).verify()


@pytest.fixture
def server_tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """Return a server's context and the file of the authority that vouches for it."""
    (tmp_path / "tls").mkdir()
    ca_file = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "server.crt", tmp_path / "tls" / "server.key")
    return context, str(ca_file)


@pytest.mark.usefixtures("dimse_way")
def test_dimse_over_tls(images, received, server_tls) -> None:
    context, ca_file = server_tls
    with faulty_pacs(images, tls=context) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, tls=TlsFiles(ca_file))
        client = connect(parse_endpoint(endpoint.address))

        client.verify()
        report = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete


@pytest.mark.parametrize("tls", [TlsFiles(), None])
def test_tls_that_is_not_trusted_or_not_used(images, server_tls, tls) -> None:
    with faulty_pacs(images, tls=server_tls[0]) as pacs, pytest.raises((UnreachableError, AssociationError)) as caught:
        connect(dataclasses.replace(pacs.endpoint, tls=tls)).verify()

    assert "TLS" in str(caught.value)


@pytest.mark.parametrize("kind", ["dimse", "http"])
def test_a_host_that_swallows_the_connection(kind) -> None:
    """A full backlog drops further connections, as a firewall does."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        if kind == "dimse":
            endpoint = DimseEndpoint("", "127.0.0.1", port, "PACS", connect_timeout_s=0.5)
        else:
            endpoint = DicomWebEndpoint("", f"http://127.0.0.1:{port}/dicom-web", connect_timeout_s=0.5)
        try:
            with pytest.raises(UnreachableError, match="did not answer"):
                connect(endpoint).verify()
        finally:
            for filler in fillers:
                filler.close()


def test_user_and_passcode_are_shown_to_the_peer_and_checked(images, server_tls) -> None:
    context, ca_file = server_tls
    with faulty_pacs(images, tls=context, passcode="canary") as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, tls=TlsFiles(ca_file))

        connect(dataclasses.replace(endpoint, auth=("doctor", "canary"))).verify()
        with pytest.raises((AssociationError, UnreachableError)):
            connect(dataclasses.replace(endpoint, auth=("doctor", "wrong"))).verify()
