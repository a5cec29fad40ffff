"""Addresses: what is accepted, what is refused with a way out, and what is never shown."""

import dataclasses

import pytest
from AIDicomBridgeLib.errors import EndpointError
from AIDicomBridgeLib.pacs.credentials import OAuthClient, environment_auth
from AIDicomBridgeLib.pacs.endpoint import (
    DicomWebEndpoint,
    DimseEndpoint,
    TlsFiles,
    parse_endpoint,
)


def test_a_dimse_address_is_read() -> None:
    options = "calling=ME&retrieve=move&move_port=11113&move_host=10.0.0.1"
    endpoint = parse_endpoint(f"dimse://PACS@hospital.example:11112?{options}")

    expected = {"retrieve": "C-MOVE", "move_port": 11113, "move_host": "10.0.0.1"}
    assert endpoint == DimseEndpoint("", "hospital.example", 11112, "PACS", "ME", **expected)
    assert endpoint.name == "PACS@hospital.example:11112"


def test_a_web_address_is_read() -> None:
    endpoint = parse_endpoint("https://Hospital.example:8443/dicom-web/", auth="token")

    assert endpoint.url == "https://hospital.example:8443/dicom-web"
    assert endpoint.auth == "token"


@pytest.mark.parametrize(
    "endpoint",
    [
        DimseEndpoint("", "127.0.0.1", 104, "PACS"),
        DimseEndpoint("our archive & more", "::1", 11112, "AE WITH/SPACE@", "ME?=&", retrieve="C-GET"),
        DimseEndpoint("", "h", 1, "A", tls=TlsFiles()),
        DimseEndpoint("", "h", 1, "A", tls=TlsFiles("/etc/ca file.pem", "/c.pem", "/k.pem"), dimse_timeout_s=2.5),
        DimseEndpoint("", "HOST", 65535, "A", retrieve="C-MOVE", move_port=4, move_host="0.0.0.0"),  # noqa: S104
        DimseEndpoint("", "h", 1, "A", retrieve="C-MOVE", move_port=4, move_host="10.0.0.1", move_from="10.0.0.2"),
        DimseEndpoint("", "h", 1, "A", retrieve="C-MOVE", move_port=4, move_from="127.0.0.1", profile="ohif"),
        DimseEndpoint("", "h", 1, "A", root="patient", associations=4, total_timeout_s=60.0),
        DicomWebEndpoint("", "https://host/dicom-web"),
        DicomWebEndpoint("", "https://host/dicom-web", connections=3, total_timeout_s=60.0),
        DicomWebEndpoint("the web", "http://[::1]:8042/dicom-web/", ("user", "secret"), timeout_s=7.0),
    ],
)
def test_an_address_gives_the_same_endpoint_back(endpoint) -> None:
    assert parse_endpoint(endpoint.address) == endpoint
    assert parse_endpoint(endpoint.address).address == endpoint.address


@pytest.mark.parametrize("auth", [("doctor", "canary-secret"), "canary-secret"])
def test_no_secret_is_shown(auth) -> None:
    endpoint = DicomWebEndpoint("web", "https://host/dicom-web", auth)

    assert "canary" not in repr(endpoint) + str(endpoint) + endpoint.address
    assert dataclasses.replace(endpoint, timeout_s=3.0).auth == auth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "dimse://"),
        ("my-pacs", "dimse://"),
        ("ftp://host/x", "dimse://"),
        ("dimse://host:104", "AE title"),
        ("dimse://AET@host", "port"),
        ("dimse://AET@host:", "port"),
        ("dimse://AET@host:0", "port"),
        ("dimse://AET@host:70000", "port"),
        ("dimse://AET@host:x", "port"),
        ("dimse://@host:104", "AE title"),
        ("dimse://%20@host:104", "AE title"),
        ("dimse://SEVENTEENLETTERSX@host:104", "1 to 16"),
        ("dimse://A%5CB@host:104", "AE title"),
        ("dimse://A%C3%84@host:104", "AE title"),
        ("dimse://AET@host:104/study", "path"),
        ("dimse://AET@host:104?associations=0", "from 1 to 16"),
        ("dimse://AET@host:104?root=series", "study or patient"),
        ("dimse://AET@host:104?colour=red", "unknown option"),
        ("dimse://AET@host:104?profile=nosuch", "Choose from dcm4chee, default, ohif"),
        ("https://host/d?profile=nosuch", "Choose from dcm4chee, default, ohif"),
        ("dimse://AET@host:104?retrieve=fetch", "auto, get or move"),
        ("dimse://AET@host:104?retrieve=move", "move_port"),
        ("dimse://AET@host:" + "9" * 5000, "port"),
        ("dimse://AET@host:104?move_port=x", "no number"),
        ("dimse://AET@host:104?move_port=nan", "no number"),
        ("dimse://AET@host:104?move_port=inf", "no number"),
        ("dimse://AET@host:104?move_port=104.7", "no number"),
        ("dimse://AET@host:104?move_host=x..y", "host"),
        ("dimse://AET@x..y:104", "neither a host name"),
        ("dimse://AET@" + "x" * 70 + ":104", "neither a host name"),
        ("dimse://AET@x!y:104", "characters"),
        ("http://x..y/d", "neither a host name"),
        ("http://x\x00y/d", "characters"),
        ("dimse://AET@host:104?move_port=99999", "port"),
        ("dimse://AET@host:104?calling=A&calling=B", "twice"),
        ("dimse://AET@host:104?dimse_timeout_s=-1", "above 0"),
        ("dimse://AET@host:104?dimse_timeout_s=nan", "above 0"),
        ("dimse://AET@host:104?move_port=11112", "Give as move_host the address"),
        ("dimse://AET@host:104?move_port=11112&move_host=localhost", "cannot reach us"),
        ("dimse://AET:canary@host:104", "AIDICOMBRIDGE_DIMSE_PASSWORD"),
        ("https://doctor:canary@host/dicom-web", "AIDICOMBRIDGE_DICOMWEB_PASSWORD"),
        ("https://doctor@host/dicom-web", "AIDICOMBRIDGE_DICOMWEB_USER"),
        ("https:///dicom-web", "host"),
        ("https://host:port/dicom-web", "port"),
        ("https://host/dicom-web#part", "fragment"),
        ("https://host/dicom-web?token=canary", "unknown option"),
    ],
)
def test_a_wrong_address_is_refused_with_the_way_out(text, expected, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path))
    with pytest.raises(EndpointError) as caught:
        parse_endpoint(text)

    assert expected in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_credentials_do_not_cross_the_network_in_the_clear() -> None:
    with pytest.raises(EndpointError, match="https://"):
        DicomWebEndpoint("web", "http://hospital.example/dicom-web", ("doctor", "secret"))

    for host in ("127.0.0.1", "localhost", "[::1]"):
        DicomWebEndpoint("web", f"http://{host}/dicom-web", ("doctor", "secret"))
    DicomWebEndpoint("web", "http://hospital.example/dicom-web")


def test_credentials_come_from_the_environment() -> None:
    names = [f"AIDICOMBRIDGE_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN", "HOST")]
    user = {names[0]: "doctor", names[1]: "secret", names[3]: "pacs.example"}
    address = "https://pacs.example/dicom-web"

    assert environment_auth({}, address) is None
    assert environment_auth(user, address) == ("doctor", "secret")
    assert environment_auth({**user, names[2]: "token"}, address) == "token"
    assert environment_auth({**user, names[3]: "pacs.example:8443"}, "https://pacs.example:8443/x") == (
        "doctor",
        "secret",
    )


def test_credentials_are_shown_to_no_other_host() -> None:
    token = {"AIDICOMBRIDGE_DICOMWEB_TOKEN": "token", "AIDICOMBRIDGE_DICOMWEB_HOST": "pacs.example"}

    assert environment_auth(token, "https://other.example/dicom-web") is None
    assert environment_auth(token, "https://pacs.example.evil.example/dicom-web") is None
    assert environment_auth(token, "dimse://A@pacs.example:104") is None
    with pytest.raises(EndpointError, match="AIDICOMBRIDGE_DICOMWEB_HOST"):
        environment_auth({"AIDICOMBRIDGE_DICOMWEB_TOKEN": "token"}, "https://pacs.example/dicom-web")


def test_a_passcode_crosses_the_network_only_under_tls() -> None:
    with pytest.raises(EndpointError, match="unencrypted"):
        DimseEndpoint("", "pacs.example", 104, "PACS", auth=("doctor", "canary"))

    DimseEndpoint("", "pacs.example", 104, "PACS", auth=("doctor", ""))
    endpoint = DimseEndpoint("", "pacs.example", 104, "PACS", tls=TlsFiles(), auth=("doctor", "canary"))
    assert "canary" not in repr(endpoint) + endpoint.address


def test_an_oauth_client_shows_its_secret_to_nobody() -> None:
    assert "canary" not in repr(OAuthClient("https://login.example/token", "bridge", "canary"))
    with pytest.raises(EndpointError, match="https://"):
        OAuthClient("http://login.example/token", "bridge", "canary")
