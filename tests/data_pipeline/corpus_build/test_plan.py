from convbert.data_pipeline.corpus_build.plan import Rates, plan


def test_the_arithmetic_is_what_the_document_says() -> None:
    """1 TB: half is left by the filters, 60 % of that by deduplication."""
    needs = {need.name: need.value for need in plan(1e12, 2, 10, lengths=1, rates=Rates())}
    assert needs["documents behind the filters"] == "167 million"  # 0.5e12 / 3000
    assert needs["core hours, clean"] == "62"  # 1e12 / 4.5e6 / 3600
    assert needs["core hours, match"] == "0"  # 167e6 * 15 / 1.5e6 / 3600 = 0.46
    assert needs["core hours, pack"] == "10"  # 0.3e12 / 8e6 / 3600
    assert needs["hours on 2 nodes of 10 cores"] == "3.6"  # 72.8 / 20
    assert needs["scratch, hashes"] == "0.03 TB"  # 167e6 * (15 * 12 + 16)
    assert needs["tokens kept"] == "67 billion"  # 0.3e12 / 4.5
    assert needs["shards"] == "0.16 TB"  # 67e9 * 2 / 0.86
    assert needs["memory of the last match task"] == "5.0 GB"  # 167e6 * 0.5 * 60
