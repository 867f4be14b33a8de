from convbert.cluster.hostlist import expand


def test_expands_what_scontrol_expands() -> None:
    assert expand("node0") == ["node0"]
    assert expand("n[08-10],login") == ["n08", "n09", "n10", "login"]
    assert expand("a[1,3-4]-ib0,b") == ["a1-ib0", "a3-ib0", "a4-ib0", "b"]
    assert expand("r[1-2]n[01-02]") == ["r1n01", "r1n02", "r2n01", "r2n02"]
    assert expand("") == []
