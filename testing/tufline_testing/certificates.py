"""Certificates of a test's own certificate authority."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(directory: Path, server: str) -> None:
    """Make a CA (``ca.pem``), and a server's key with its certificate for loopback (``<server>.pem``)."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca of a test")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        began = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        ends = now + dt.timedelta(days=1)
        return began.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(ends)

    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    ca_identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca_signed = ca.add_extension(usage, critical=True).add_extension(ca_identifier, critical=False).sign(ca_key, hashes.SHA256())
    signed_server = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server)]), key.public_key())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_identifier)
    signed = signed_server.add_extension(names, critical=False).add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "ca.pem").write_bytes(ca_signed.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (directory / f"{server}.pem").write_bytes(private + signed.public_bytes(pem))
