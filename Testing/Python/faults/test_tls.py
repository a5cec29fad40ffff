"""TLS by the BCP 195 profile of PS3.15 B.12: what is too old, too weak or not proven is refused, on both ends."""

import contextlib
import dataclasses
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import AssociationError, EndpointError, UnreachableError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.pacs.tls import calling_context, receiving_context
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import require_program
from peers.tls_front import make_certificates, server_context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [require_program("openssl"), "req", "-x509", *key, "-keyout", "self.key", "-out", "self.crt", *subject],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder


@pytest.fixture
def files(certificates) -> TlsFiles:
    return TlsFiles(*(str(certificates / name) for name in ("ca.pem", "server.crt", "server.key")))


@contextmanager
def greeting(context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[int]:
    """Make TLS handshakes on loopback and hang up after each; gives the port."""
    with socket.create_server((host, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = listening.accept()
                    connection.settimeout(5)
                    with contextlib.suppress(OSError):
                        context.wrap_socket(connection, server_side=True).close()
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def shakes_hands(context: ssl.SSLContext, port: int, host: str = "127.0.0.1") -> str | None:
    """Return the version that was agreed on, None if there was no agreement."""
    with socket.create_connection((host, port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                return secured.version()
        except ssl.SSLError:
            return None


def careless_context() -> ssl.SSLContext:
    """Return a client's context that takes anything: it shows that a server is sound, only not for us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def old_server(certificates: Path, newest: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    context = server_context(certificates, ask_client=False)
    context.set_ciphers(ciphers)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("kind", ["dimse", "http"])
@pytest.mark.parametrize("fault", ["TLS 1.1", "unauthenticated encryption", "self-signed", "another host"])
def test_a_server_that_is_not_good_enough(certificates, files, kind, fault) -> None:
    newest = ssl.TLSVersion.TLSv1_1 if fault == "TLS 1.1" else ssl.TLSVersion.TLSv1_2
    ciphers = "ECDHE-ECDSA-AES256-SHA" if fault == "unauthenticated encryption" else "ALL:@SECLEVEL=0"
    context = old_server(certificates, newest, ciphers)
    if fault == "self-signed":
        context.load_cert_chain(certificates / "self.crt", certificates / "self.key")
    host = "127.0.0.2" if fault == "another host" else "127.0.0.1"
    with greeting(context, host) as port:
        assert shakes_hands(careless_context(), port, host)
        endpoint = (
            DimseEndpoint("", host, port, "PACS", tls=files, connect_timeout_s=5)
            if kind == "dimse"
            else DicomWebEndpoint("", f"https://{host}:{port}/dicom-web", ca_file=files.ca_file, connect_timeout_s=5)
        )
        with pytest.raises(UnreachableError, match=r"TLS|certificate"):
            connect(endpoint).verify()


def test_the_newest_tls_and_the_recommended_ciphers_are_used(certificates, files) -> None:
    context = calling_context(files, "PACS")
    for newest, version in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        with greeting(old_server(certificates, newest, "ALL")) as port:
            assert shakes_hands(context, port) == version

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    for cipher in [*context.get_ciphers(), *receiving_context(files, "PACS").get_ciphers()]:
        assert cipher["aead"], cipher["name"]
        assert cipher["kea"] in ("kx-ecdhe", "kx-dhe", "kx-any"), cipher["name"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_who_calls_us_back_has_to_prove_who_it_is(certificates, files, tmp_path) -> None:
    with (
        InstanceStore(tmp_path / "archive") as store,
        Archive(store, tls=receiving_context(files, "PACS")) as archive,
    ):
        endpoint = dataclasses.replace(archive.endpoint, association_timeout_s=3)
        connect(dataclasses.replace(endpoint, tls=files)).verify()
        for stranger in (
            TlsFiles(files.ca_file),
            TlsFiles(files.ca_file, str(certificates / "self.crt"), str(certificates / "self.key")),
        ):
            with pytest.raises((AssociationError, UnreachableError)):
                connect(dataclasses.replace(endpoint, tls=stranger)).verify()
        old = careless_context()
        old.load_cert_chain(files.certificate_file, files.key_file)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        assert shakes_hands(old, archive.port) is None


def test_without_a_certificate_of_ours_nothing_comes_back_in_clear(files) -> None:
    with pytest.raises(EndpointError, match="cannot call us back over TLS") as caught:
        receiving_context(TlsFiles(files.ca_file), "PACS")

    assert "certificate_file" in caught.value.advice


def test_silent_sockets_do_not_keep_others_out_of_a_tls_archive(certificates, files, tmp_path) -> None:
    context = server_context(certificates, ask_client=True)
    with (
        InstanceStore(tmp_path / "archive") as store,
        Archive(store, tls=context, limits=ScpLimits(pdu_seconds=1)) as archive,
        contextlib.ExitStack() as open_ones,
    ):
        address = ("127.0.0.1", archive.port)
        strangers = [open_ones.enter_context(socket.create_connection(address, timeout=20)) for _ in range(12)]
        for stranger in strangers[::2]:
            stranger.sendall(b"\x16\x03\x01\x02\x00\x01")

        connect(dataclasses.replace(archive.endpoint, tls=files)).verify()
        for stranger in strangers:
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
