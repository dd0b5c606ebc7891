"""The listening port: shared by a cluster's workers, with nobody else."""

import socket
import urllib.request

import pytest

from cluster import Cluster, free_port, wait_until


@pytest.fixture
def two_clusters():
    port = free_port()
    first = Cluster(workers=2, settings={"sequin_proxy.port": port})
    second = Cluster(settings={"sequin_proxy.port": port})
    try:
        yield first, second, port
    finally:
        first.destroy()
        second.destroy()


def test_a_second_cluster_of_the_same_user_does_not_share_the_port_and_takes_it_over_when_it_is_free(two_clusters):
    first, second, port = two_clusters
    first.start()
    wait_until("both workers of the first listen", lambda: first.one(
        "SELECT count(*) = 2 FROM sequin.proxy_stats WHERE listening AND listen_error IS NULL OR listening AND listen_error = ''"))
    second.start()
    wait_until("the second says why it does not", lambda: second.one("SELECT listen_error LIKE '%%in use%%' FROM sequin.proxy_stats"))
    assert second.one("SELECT bool_or(listening) FROM sequin.proxy_stats") is False
    assert "tries again every second" in second.log()
    first.stop()
    wait_until("the second listens now", lambda: second.one("SELECT bool_and(listening) FROM sequin.proxy_stats"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as r:
        assert r.status == 200


def test_an_address_that_is_taken_is_named_while_the_others_serve():
    port = free_port()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        with Cluster(settings={"sequin_proxy.port": port, "sequin_proxy.listen_addresses": "'127.0.0.1, 127.0.0.2'"}) as c:
            wait_until("the taken address is named", lambda: c.one("SELECT listen_error LIKE '%%127.0.0.1:%%in use%%' FROM sequin.proxy_stats"))
            with urllib.request.urlopen(f"http://127.0.0.2:{port}/healthz") as r:
                assert r.status == 200
            squatter.close()
            wait_until("it is taken over", lambda: c.one("SELECT listen_error IS NULL FROM sequin.proxy_stats"))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as r:
                assert r.status == 200
