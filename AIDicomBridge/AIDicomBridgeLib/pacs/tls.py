"""TLS by the BCP 195 profile of PS3.15 B.12: what we call, by DIMSE and DICOMweb, and what calls us back."""

from typing import TYPE_CHECKING

from ..errors import EndpointError
from .endpoint import TlsFiles

if TYPE_CHECKING:
    import ssl

# Of TLS 1.2 only what RFC 9325 section 4.2 recommends: forward secrecy and authenticated encryption. Those of TLS 1.3,
# which is preferred, are all of that kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!DSS"


def calling_context(files: TlsFiles, peer: str) -> "ssl.SSLContext":
    """Return what verifies the certificate and host name of a peer that we call, and shows it our certificate.

    Raises
    ------
    EndpointError
        The certificate or key files cannot be used.
    """
    import ssl

    return _context(files, peer, ssl.Purpose.SERVER_AUTH)


def receiving_context(files: TlsFiles | None, peer: str) -> "ssl.SSLContext | None":
    """Return what our own receiver serves with while a peer calls us back; None for a peer without TLS.

    The peer has to show a certificate that we trust. From a peer with TLS nothing ever comes back in clear.

    Raises
    ------
    EndpointError
        There is no certificate of ours, or the files cannot be used.
    """
    import ssl

    if files is None:
        return None
    if not files.certificate_file:
        raise EndpointError(
            "without a certificate of ours the PACS cannot call us back over TLS",
            peer=peer,
            advice="Give certificate_file and key_file, or use C-GET.",
        )
    context = _context(files, peer, ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def web_context() -> "ssl.SSLContext":
    """Return what urllib3 verifies servers with, once it has put the certificates to trust into it."""
    import ssl

    from urllib3.util.ssl_ import create_urllib3_context

    return create_urllib3_context(ssl_minimum_version=ssl.TLSVersion.TLSv1_2, ciphers=_CIPHERS)


def _context(files: TlsFiles, peer: str, purpose: "ssl.Purpose") -> "ssl.SSLContext":
    import ssl

    try:
        context = ssl.create_default_context(purpose, cafile=files.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        if files.certificate_file:
            context.load_cert_chain(files.certificate_file, files.key_file)
    except (OSError, ssl.SSLError) as error:
        raise EndpointError("the TLS certificate or key files cannot be used", peer=peer) from error
    return context
