"""Images of the web: which hosts are read, what a server's answers mean, and manifests that name them."""

import datetime
import ipaddress
import re
import time

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.inputs.run_images import RunImages
from faceattr.data.stores.open import open_output, open_store
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, RefusedObjectError
from faceattr.data.stores.web.hosts import WebAddress, check_allowed, is_public, parse_web
from faceattr.errors import ConfigError, ImageError, StorageError
from faceattr.jobs.images.read import ReadImages
from tests.data.input_rows import read
from tests.fakes.web_server import Answer, serve_pages

LIMITS = ImageLimitsConfig(max_bytes=100_000)


@pytest.fixture
def web():
    with serve_pages() as server:
        yield server


def allow(*hosts, deadline_s=5.0):
    return StorageConfig(allow_http=hosts, deadline_s=deadline_s)


# Hosts


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://Example.ORG/a b.jpg", ("https", "example.org", 443, "/a%20b.jpg", "example.org")),
        ("HTTP://h:8080/x/\u00fc.png?w=1&h=2#top", ("http", "h", 8080, "/x/%C3%BC.png?w=1&h=2", "h:8080")),
        ("http://[::1]:81", ("http", "::1", 81, "/", "[::1]:81")),
        ("http://h:80/..%2fa%20b", ("http", "h", 80, "/..%2Fa%20b", "h")),
    ],
)
def test_addresses_are_parsed(uri, expected):
    found = parse_web(uri)
    assert (found.scheme, found.host, found.port, found.target, found.authority) == expected


@pytest.mark.parametrize("uri", ["ftp://h/a", "http:///a.jpg", "https://", "http://h:x/a"])
def test_what_is_no_address(uri):
    with pytest.raises(ConfigError, match="is no web address"):
        parse_web(uri)


@pytest.mark.parametrize(
    ("uri", "hosts", "is_allowed"),
    [
        ("https://h/a", ["h"], True),
        ("http://h/a", ["g", "H"], True),
        ("http://h:443/a", ["h"], True),
        ("http://h:8080/a", ["h"], False),
        ("http://h:8080/a", ["h:8080"], True),
        ("http://h/a", ["h:8080"], False),
        ("https://h.evil.org/a", ["h"], False),
        ("https://sub.h/a", ["h"], False),
        ("http://[::1]:9/a", ["[::1]:9"], True),
        ("http://2130706433/a", ["127.0.0.1"], False),
        ("https://h/a", [], False),
    ],
)
def test_only_named_hosts_are_allowed(uri, hosts, is_allowed):
    address = parse_web(uri)
    if is_allowed:
        check_allowed(address, hosts)
        return
    with pytest.raises(ConfigError, match=rf"add --storage\.allow-http {re.escape(address.entry)}$"):
        check_allowed(address, hosts)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((public, True) for public in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")),
        *((loopback, False) for loopback in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::")),
        *((private, False) for private in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1")),
        # Link-local, with the cloud's address for credentials, and addresses that stand for it.
        *((local, False) for local in ("169.254.169.254", "fe80::1%eth0", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1")),
        *((other, False) for other in ("224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "no address")),
    ],
)
def test_public_addresses(address, expected):
    assert is_public(address) == expected


def test_a_name_of_a_private_address_is_refused_even_if_it_is_allowed(web):
    web.pages["/a.jpg"] = Answer(b"1")
    store = open_store(f"http://localhost:{web.port}", allow(f"localhost:{web.port}"))
    with pytest.raises(StorageError, match=r"localhost has the address .*, which is not of the public internet"):
        store.get("a.jpg")
    assert web.requests == []
    assert open_store(web.root, allow(web.host)).get("a.jpg") == b"1"


@pytest.mark.parametrize("host", ["http://h", "h/", "*.h", "", "h:http", "::1", "u@h", "h h"])
def test_what_is_no_host(host):
    with pytest.raises(ConfigError, match=r"--storage\.allow-http: expected HOST or HOST:PORT"):
        StorageConfig(allow_http=(host,))


# Answers


def test_an_image_is_read_with_one_request_and_the_connection_is_kept(web):
    web.pages |= {"/x/a%20b.jpg?w=1": Answer(b"ab" * 40_000), "/c.png": Answer(b"c", is_chunked=True), "/e": Answer()}
    store = open_store(f"{web.root}/", allow(web.host))
    assert [store.get(key) for key in ("x/a b.jpg?w=1", "c.png", "e")] == [b"ab" * 40_000, b"c", b""]
    assert [path for path, _ in web.requests] == ["/x/a%20b.jpg?w=1", "/c.png", "/e"]
    headers = web.requests[0][1]
    assert (headers["Host"], headers["Accept-Encoding"]) == (web.host, "identity")


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_image(web, status):
    web.pages["/a.jpg"] = Answer(b"?", status)
    with pytest.raises(MissingObjectError):
        open_store(web.root, allow(web.host)).get("a.jpg")
    assert len(web.requests) == 1


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_image_is_not_fetched(web, is_chunked):
    web.pages["/a.jpg"] = Answer(bytes(3_000_000), is_chunked=is_chunked)
    with pytest.raises(LargeObjectError) as error:
        open_store(web.root, allow(web.host)).get("a.jpg", max_bytes=1_000)
    assert error.value.num_bytes == 3_000_000 if not is_chunked else 1_000 < error.value.num_bytes < 1_000_000


@pytest.mark.parametrize(
    "failure",
    [
        Answer(b"busy", 503),
        Answer(b"slow down", 429, {"Retry-After": "0"}),
        Answer(b"half", headers={"Content-Length": "8"}, is_cut=True),
        Answer(b"half", is_chunked=True, is_cut=True),
    ],
)
def test_what_passes_is_tried_again(web, failure):
    web.pages["/a.jpg"] = Answer(b"the whole image")
    web.failures["/a.jpg"] = [failure, failure]
    assert open_store(web.root, allow(web.host)).get("a.jpg") == b"the whole image"
    assert len(web.requests) == 3


def test_a_server_that_is_down_is_an_outage():
    with serve_pages() as server:
        root, host = server.root, server.host
    with pytest.raises(StorageError, match=r"could not read .* No image is rejected because of it") as error:
        open_store(root, allow(host, deadline_s=0.3)).get("a.jpg")
    assert not isinstance(error.value, RefusedObjectError)


def test_a_slow_body_is_given_up(web):
    web.pages["/a.jpg"] = Answer(b"ab", pause_s=0.4)
    with pytest.raises(StorageError, match=r"1 bytes in 0\.2 s|2 bytes in 0\.2 s"):
        open_store(web.root, allow(web.host, deadline_s=0.2)).get("a.jpg")


def test_redirects_are_followed_within_the_named_hosts(web):
    web.pages |= {
        "/a.jpg": Answer(status=302, headers={"Location": "/b.jpg"}),
        "/b.jpg": Answer(status=308, headers={"Location": f"{web.root}/c.jpg"}),
        "/c.jpg": Answer(b"c"),
    }
    assert open_store(web.root, allow(web.host)).get("a.jpg") == b"c"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://localhost:{port}/b.jpg", "it redirects to an address that may not be read: .*localhost"),
        ("http://169.254.169.254/latest/meta-data", "may not be read: .*169.254.169.254 is not"),
        ("file:///etc/passwd", "may not be read: .*is no web address"),
        ("/a.jpg", "more than 5 redirects"),
        ("", "more than 5 redirects"),
    ],
)
def test_redirects_elsewhere_are_refused(web, location, expected):
    headers = {"Location": location.format(port=web.port)}
    web.pages |= {"/a.jpg": Answer(status=302, headers=headers), "/b.jpg": Answer(b"secret")}
    with pytest.raises(RefusedObjectError, match=expected):
        open_store(web.root, allow(web.host)).get("a.jpg")
    assert {path for path, _ in web.requests} == {"/a.jpg"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(b"?", 403), "status 403"),
        (Answer(b"?", 206), "status 206"),
        (Answer(b"?", headers={"Content-Encoding": "gzip"}), r"the answer is compressed \(gzip\)"),
    ],
)
def test_other_answers_are_refusals(web, answer, expected):
    web.pages["/a.jpg"] = answer
    with pytest.raises(RefusedObjectError, match=expected):
        open_store(web.root, allow(web.host)).get("a.jpg")


def test_a_server_without_tls_is_an_outage_of_https(web):
    with pytest.raises(StorageError, match="SSLError"):
        open_store(f"https://{web.host}", allow(web.host, deadline_s=0.1)).get("a.jpg")


def write_certificate(path, address):
    """A certificate that its own key has signed, for an IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
    pem = serialization.Encoding.PEM
    plain = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*plain) + builder.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


@pytest.mark.parametrize(("address", "is_trusted"), [("127.0.0.1", True), ("127.0.0.1", False), ("127.0.0.2", True)])
def test_the_certificate_of_a_server_is_checked(tmp_path, monkeypatch, address, is_trusted):
    certificate = write_certificate(tmp_path / f"{address}.pem", address)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve_pages(certificate) as server:
        server.pages["/a.jpg"] = Answer(b"a")
        store = open_store(f"https://{server.host}", allow(server.host))
        if is_trusted and address == "127.0.0.1":
            assert store.get("a.jpg") == b"a"
            return
        with pytest.raises(StorageError, match="its certificate is not valid"):
            store.get("a.jpg")
        assert server.requests == []


# Runs


def rows_of(web, names, folder, options=None):
    lines = ["uri,who", *(f"{web.root}/{name},{place}" for place, name in enumerate(names)), "b.jpg,local"]
    folder.put("list.csv", "\n".join(lines).encode())
    folder.put("b.jpg", b"beside the list")
    source = open_input(f"{folder.uri}/list.csv", storage=options or allow(web.host))
    rows = pa.concat_tables(source.tables)
    return source, rows.add_column(0, "row", pa.array(range(len(rows)), pa.int64()))


def statuses(source, rows, options):
    (table,) = ReadImages(source.root, options, LIMITS)(rows)
    return [(row["data"] or row["status"], row["error"]) for row in table.to_pylist()]


def test_a_manifest_names_images_of_the_web_and_beside_it(web, folder):
    web.pages |= {
        "/a.jpg": Answer(b"a"),
        "/large.jpg": Answer(bytes(200_000)),
        "/private.jpg": Answer(b"?", 403),
        "/away.jpg": Answer(status=302, headers={"Location": "http://10.0.0.1/"}),
    }
    source, rows = rows_of(web, ["a.jpg", "absent.jpg", "large.jpg", "private.jpg", "away.jpg"], folder)
    assert (source.kind, source.root) == ("manifest", folder.uri)
    assert rows["image_id"].to_pylist() == [
        *(f"{web.root}/{name}" for name in ("a.jpg", "absent.jpg", "large.jpg", "private.jpg", "away.jpg")),
        "b.jpg",
    ]
    assert rows["uri"].to_pylist() == [*rows["image_id"].to_pylist()[:5], f"{folder.uri}/b.jpg"]
    found = statuses(source, rows, allow(web.host))
    assert [value for value, _ in found] == [
        b"a",
        "missing",
        "too_large",
        "unreadable",
        "unreadable",
        b"beside the list",
    ]
    assert found[3][1] == "status 403"
    assert found[4][1].startswith("it redirects to an address that may not be read: ")
    images = RunImages(source.root, None, allow(web.host), LIMITS)
    assert images.read(f"{web.root}/a.jpg", None) == b"a"
    assert isinstance(images.read(f"{web.root}/absent.jpg", None), ImageError)


def test_a_root_on_the_web(web, folder):
    web.pages["/faces/a.jpg"] = Answer(b"a")
    folder.put("list.csv", b"uri\na.jpg\n")
    source = open_input(f"{folder.uri}/list.csv", root=f"{web.root}/faces/", storage=allow(web.host))
    assert [(row["image_id"], row["uri"]) for row in read(source)] == [("a.jpg", f"{web.root}/faces/a.jpg")]
    rows = pa.concat_tables(open_input(f"{folder.uri}/list.csv", root=source.root, storage=allow(web.host)).tables)
    assert statuses(source, rows, allow(web.host)) == [(b"a", None)]


@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_refuses_all_images_stops_the_run(web, folder, status):
    source, rows = rows_of(web, ["a.jpg", "b.jpg"], folder)
    web.outage = Answer(b"?", status)
    with pytest.raises(StorageError, match="so no image is rejected because of it"):
        statuses(source, rows, allow(web.host, deadline_s=0.3))


def test_an_image_that_its_server_cannot_give_is_a_row_with_its_reason(web, folder):
    web.pages |= {"/a.jpg": Answer(b"a"), "/broken.jpg": Answer(b"?", 500)}
    source, rows = rows_of(web, ["a.jpg", "broken.jpg"], folder)
    started = time.monotonic()
    found = statuses(source, rows, allow(web.host, deadline_s=0.3))
    assert [value for value, _ in found] == [b"a", "unreadable", b"beside the list"]
    assert found[1][1].startswith("status 500, for 0 s")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            "https://elsewhere.org/a.jpg",
            r"row 0 \(counted from 0\): .*elsewhere.org is not .*--storage.allow-http elsewhere.org",
        ),
        ("https://user:word@h/a.jpg", "a user, a password or a key in front of the host"),
        ("https://h/a.jpg?token=abc", "the parameter 'token' of a signed or secret link"),
        ("https://", "is no web address"),
        ("ftp://h/a.jpg", "it names a scheme"),
    ],
)
def test_addresses_that_a_manifest_may_not_name(folder, value, expected):
    folder.put("list.csv", f"uri\n{value}\n".encode())
    with pytest.raises(ConfigError, match=expected):
        read(open_input(f"{folder.uri}/list.csv", storage=allow("h")))


def test_the_web_is_only_read_and_never_listed(web):
    with pytest.raises(ConfigError, match=r"a web server cannot be listed\. Name its images in a manifest"):
        open_input(f"{web.root}/faces", storage=allow(web.host))
    with pytest.raises(ConfigError, match="read from hosts that are named"):
        open_input(f"{web.root}/faces")
    with pytest.raises(ConfigError, match="runs are written to local folders and s3:// only"):
        open_output(f"{web.root}/run", allow(web.host))
    store = open_store(web.root, allow(web.host))
    for write in (lambda: store.put("a", b""), lambda: store.put_if_absent("a", b""), lambda: store.delete("a")):
        with pytest.raises(ConfigError, match="images may be read here"):
            write()


def test_the_header_of_a_host_is_that_of_its_name():
    assert WebAddress(scheme="https", host="::1", port=443, target="/").root == "https://[::1]"
