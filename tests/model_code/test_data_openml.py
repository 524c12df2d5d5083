import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ci_tools.errors import DataError, DependencyUnavailable
from model.data import load_source
from model.openml import read_openml
from model.params import Data, OpenML

ARFF = """% made up
@RELATION cards
@attribute id INTEGER
@ATTRIBUTE Time REAL
@attribute 'buyer\\'s amount' REAL
@attribute kind {shop,'the web'}
@attribute Class {0,1}
@data
1,0,1.5,shop,'0'
2,1,?,'the web','1'
3,2,2.5,'the web','0'
"""


class Server:
    """Answers like openml.org for one data set; `paths` are the requests so far, the answer to `cut` breaks off."""

    def __init__(self):
        self.files, self.paths, self.cut = {}, [], ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.paths.append(self.path)
                body = outer.files.get(self.path)
                self.send_response(body[0] if isinstance(body, tuple) else 200 if body is not None else 412)
                content = body if isinstance(body, bytes) else b"{}"
                self.send_header("Content-Length", str(len(content) + (self.path == outer.cut)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def publish(self, content, **description):
        answer = {"id": "7", "name": "cards", "format": "ARFF", "url": f"{self.url}/data/cards.arff"}
        answer |= {"md5_checksum": hashlib.md5(content).hexdigest(), "row_id_attribute": "id"} | description
        listing = {"data": {"dataset": [{"did": 7, "name": "cards", "version": 1, "status": "active"}]}}
        self.files = {
            "/api/v1/json/data/list/data_name/cards/data_version/1/limit/2": json.dumps(listing).encode(),
            "/api/v1/json/data/7": json.dumps({"data_set_description": answer}).encode(),
            "/data/cards.arff": content,
        }

    def close(self):
        if not self._thread.is_alive():
            return
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    server = Server()
    server.publish(ARFF.encode())
    yield server
    server.close()


def params(server, **options):
    return OpenML(name="cards", server=server.url, **options)


def check(frame):
    assert frame.numeric["buyer's amount"].tolist()[::2] == [1.5, 2.5]
    kind = frame.categorical["kind"]
    assert [kind.values[code] for code in kind.codes] == ["shop", "the web", "the web"]
    assert frame.label.tolist() == [False, True, False]
    assert frame.time.tolist() == [0, 1, 2]
    assert set(frame.numeric) | set(frame.categorical) == {"buyer's amount", "kind"}


def test_data_set_is_fetched_once_then_cached(server, tmp_path):
    check(load_source(Data(source="openml", openml=params(server))))
    assert len(server.paths) == 3
    server.close()
    check(load_source(Data(source="openml", openml=params(server))))
    assert (tmp_path / ".switchback" / "openml").is_dir()


def test_parquet_is_used_where_arff_is_sparse(server, tmp_path):
    table = {"Time": [0, 1, 2], "buyer's amount": [1.5, None, 2.5], "kind": ["shop", "the web", "the web"]}
    pq.write_table(pa.table(table | {"Class": ["0", "1", "0"]}), tmp_path / "rows.parquet")
    server.publish(b"", format="Sparse_ARFF", parquet_url=f"{server.url}/data/cards.pq", row_id_attribute=None)
    server.files["/data/cards.pq"] = (tmp_path / "rows.parquet").read_bytes()
    check(read_openml(params(server)))


def test_unknown_data_set_is_named(server):
    server.files.clear()
    with pytest.raises(DataError, match="no data set 'cards' version 1"):
        read_openml(params(server))


def test_damaged_download_is_not_kept(server, tmp_path):
    server.publish(ARFF.encode(), md5_checksum="0" * 32)
    with pytest.raises(DataError, match=r"the file has MD5 .* try again"):
        read_openml(params(server))
    assert not list(tmp_path.rglob("*.arff*"))
    server.publish(ARFF.encode())
    check(read_openml(params(server)))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (ARFF.replace("1,0,1.5,shop,'0'", "1,0,1.5,shop"), {}, r"data\.arff:9: 4 fields where the header has 5"),
        (ARFF.replace("@data", ""), {}, "there is no @data section"),
        (ARFF, {"format": "Sparse_ARFF"}, "format 'Sparse_ARFF' is not supported"),
        (ARFF, {"url": "file:///etc/hostname"}, "is not a web address"),
    ],
)
def test_bad_files_are_refused(server, content, options, message):
    server.publish(content.encode(), **options)
    with pytest.raises(DataError, match=message):
        read_openml(params(server))


def test_network_trouble_says_what_to_do(server):
    for path in server.files:
        server.publish(ARFF.encode())
        server.files[path] = (503,)
        with pytest.raises(DependencyUnavailable, match=r"status 503.*check the network") as caught:
            read_openml(params(server))
        assert caught.value.exit_code == 4
    server.publish(ARFF.encode())
    server.files["/api/v1/json/data/7"] = b"<html>"
    with pytest.raises(DependencyUnavailable, match="something else than its JSON"):
        read_openml(params(server))


def test_a_download_that_breaks_off_says_what_to_do(server, tmp_path):
    server.cut = "/data/cards.arff"
    with pytest.raises(DependencyUnavailable, match=r"IncompleteRead.*check the network"):
        read_openml(params(server))
    assert not list(tmp_path.rglob("description.json"))
    server.cut = ""
    check(read_openml(params(server)))


def test_unreachable_server_says_what_to_do(server):
    server.close()
    with pytest.raises(DependencyUnavailable, match=r"OpenML does not answer.*check the network"):
        read_openml(params(server))
