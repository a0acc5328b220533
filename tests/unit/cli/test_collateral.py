from contextlib import ExitStack

import pytest
from vendors import Reply, Service, amd, intel, renumbered, served

from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom_sim import Chip, Installation
from strongroom_sim.snp import SnpChip, SnpInstallation

NOW = 1_790_000_000
DAY = 86_400
AT = ("--at", str(NOW))


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    return Installation.create(tmp_path_factory.mktemp("cli") / "installation", now=NOW)


@pytest.fixture
def serve():
    with ExitStack() as stack:
        yield lambda service: stack.enter_context(served(service))


@pytest.fixture
def pcs(installation):
    return Service(dict(intel(installation.collateral(NOW))))


@pytest.fixture
def given(tmp_path, installation, monkeypatch, serve, pcs):
    """A quote, and the words that name its anchor, a PCCS and a cache."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    quote, root = tmp_path / "quote.bin", tmp_path / "root.pem"
    quote.write_bytes(Chip(installation, mrtd=bytes(48)).quote(bytes(64)))
    root.write_bytes(installation.root_pem)
    cache = ("--cache", tmp_path / "cache")
    return quote, ("--anchor", root, "--intel", serve(pcs), *cache, *AT), cache


def test_what_a_quote_needs_is_fetched_verified_and_written(strongroom, given, installation, tmp_path, pcs):
    quote, words, _ = given
    out = tmp_path / "collateral.json"
    ran = strongroom("collateral", "fetch", quote, *words, "-o", out, "--json")
    assert ran.code == 0
    (found,) = ran.document["collateral"]
    assert (found["kind"], found["until"], len(found["parts"])) == ("tdx", NOW + 30 * DAY, 4)
    assert ran.document["not_renewed"] == []
    written = codec.decode(Collateral, out.read_bytes())
    assert written.digest == found["digest"]
    assert written.intel.tcb_info == installation.collateral(NOW).tcb_info
    verified = strongroom(
        "evidence", "verify", quote, "--collateral", out, "--anchor", words[1], *AT, "--accept-simulated", "--json"
    )
    assert (verified.code, verified.document["level"]) == (0, "simulated")
    again = strongroom("collateral", "fetch", quote, *words)
    assert again.code == 0
    assert "intel/root-crl" in again.out
    assert len(pcs.seen) == 4


def test_what_is_kept_is_shown_and_pruned_and_floors_stay(strongroom, given):
    quote, words, cache = given
    strongroom("collateral", "fetch", quote, *words)
    shown = strongroom("collateral", "show", *cache, *AT, "--json").document
    assert [entry["ended"] for entry in shown["entries"]] == [False] * 4
    assert len(shown["floors"]) == 4
    later = ("--at", str(NOW + 31 * DAY))
    assert strongroom("collateral", "show", *cache, *later).out.count("ended") == 4
    assert strongroom("collateral", "prune", *cache, *AT, "--json").document == {"removed": 0}
    assert strongroom("collateral", "prune", *cache, *later).out == "4 removed\n"
    left = strongroom("collateral", "show", *cache, *AT, "--json").document
    assert (left["entries"], left["floors"]) == ([], shown["floors"])


def test_an_empty_cache_is_shown_as_such_and_is_not_made(strongroom, tmp_path):
    cache = ("--cache", tmp_path / "none")
    assert strongroom("collateral", "show", *cache, "--json").document == {"entries": [], "floors": []}
    assert strongroom("collateral", "show", *cache).code == 0
    assert strongroom("collateral", "prune", *cache, "--all").out == "0 removed\n"
    assert not (tmp_path / "none").exists()


def test_offline_takes_what_is_kept_and_says_what_is_missing(strongroom, given, pcs):
    quote, words, _ = given
    ran = strongroom("collateral", "fetch", quote, *words, "--offline", "--json")
    assert (ran.code, ran.error) == (4, "unavailable")
    strongroom("collateral", "fetch", quote, *words)
    asked = len(pcs.seen)
    assert strongroom("collateral", "fetch", quote, *words, "--offline").code == 0
    assert len(pcs.seen) == asked


def test_collateral_that_is_refused_ends_with_1_and_one_that_is_not_there_with_4(strongroom, given, pcs, installation):
    quote, words, _ = given
    pcs.answers.update(intel(renumbered(installation, installation.collateral(NOW), 18)))
    assert strongroom("collateral", "fetch", quote, *words).code == 0
    pcs.answers.update(intel(renumbered(installation, installation.collateral(NOW), 17)))
    ran = strongroom("collateral", "fetch", quote, *words, "--renew", "--json")
    assert (ran.code, ran.error) == (1, "collateral.stale")
    pcs.answers.clear()
    ran = strongroom("collateral", "fetch", quote, *words, "--renew", "--json")
    assert (ran.code, ran.error) == (4, "service.unavailable")
    words = [*words[:-1], str(NOW + 2 * DAY)]
    ran = strongroom("collateral", "fetch", quote, *words, "--json")
    assert (ran.code, len(ran.document["not_renewed"])) == (0, 4)
    ran = strongroom("collateral", "fetch", quote, *words)
    assert "not renewed: intel/root-crl" in ran.err


def test_a_vendor_that_answers_nonsense_ends_with_3(strongroom, given, pcs):
    quote, words, _ = given
    pcs.answers = dict.fromkeys(pcs.answers, Reply(b"{}", headers={"content-type": "application/json"}))
    ran = strongroom("collateral", "fetch", quote, *words, "--json")
    assert (ran.code, ran.error) == (3, "evidence.malformed")


def test_a_foreign_root_is_refused(strongroom, given):
    quote, words, _ = given
    ran = strongroom("collateral", "fetch", quote, *words[2:], "--json")
    assert (ran.code, ran.error) == (1, "signature.invalid")


def test_words_without_meaning_end_with_2_and_files_without_evidence_with_3(strongroom, given, tmp_path):
    quote, words, _ = given
    (tmp_path / "noise").write_bytes(b"noise")
    for bad in (
        [quote, quote, "-o", tmp_path / "x"], [quote, "--intel", "ftp://x"], [quote, "--update", "late"], [],
        [quote, "--crl", "http://no.name"], [quote, "--evaluation", "0"], [quote, "--update", "early", "--evaluation", "1"],
    ):  # fmt: skip
        assert strongroom("collateral", "fetch", *words, *bad, "--json").code == 2, bad
    assert strongroom("collateral", "fetch", *words, tmp_path / "noise", "--json").code == 3
    assert strongroom("collateral", "fetch", *words, tmp_path / "nothing", "--json").code == 3
    out = tmp_path / "there"
    out.write_text("precious")
    assert strongroom("collateral", "fetch", *words, quote, "-o", out, "--json").code == 2
    assert out.read_text() == "precious"


def test_an_snp_report_is_asked_about_at_kds(strongroom, given, serve, tmp_path):
    _, words, _ = given
    snp = SnpInstallation.generate(now=NOW)
    chip = SnpChip(snp, measurement=bytes(48), now=NOW)
    report, root = tmp_path / "report.bin", tmp_path / "ark.pem"
    report.write_bytes(chip.quote(bytes(64)))
    root.write_bytes(snp.root_pem)
    service = Service(dict(amd(snp, NOW)))
    leaf = chip.collateral(NOW).leaf

    async def any_vcek(scope, receive, send):
        if "blSPL" in scope["query_string"].decode():
            service.answers[f"{scope['path']}?{scope['query_string'].decode()}"] = Reply(leaf)
        await service(scope, receive, send)

    words = ("--anchor", root, "--amd", serve(any_vcek), *words[4:])
    ran = strongroom("collateral", "fetch", report, *words, "-o", tmp_path / "amd.json", "--json")
    assert (ran.code, ran.document["collateral"][0]["kind"]) == (0, "snp")
    assert codec.decode(Collateral, (tmp_path / "amd.json").read_bytes()).amd.leaf == leaf


def test_the_default_cache_is_below_the_users_cache_directory(strongroom, tmp_path, monkeypatch, given):
    quote, words, _ = given
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    words = [word for word in words if word not in {"--cache", tmp_path / "cache"}]
    assert strongroom("collateral", "fetch", quote, *words).code == 0
    assert (tmp_path / "xdg" / "strongroom" / "collateral" / "floors.json").is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert strongroom("collateral", "fetch", quote, *words).code == 0
    assert (tmp_path / "home" / ".cache" / "strongroom" / "collateral" / "floors.json").is_file()
