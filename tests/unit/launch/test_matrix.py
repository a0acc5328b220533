import re

from strongroom.launch.matrix import matrix


def test_every_row_names_a_source_and_every_source_has_a_row():
    found = matrix()
    rows = {row.source for row in (*found.hosts, *found.gpus)}
    assert rows == found.sources.keys()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found.read)


def test_no_cell_is_empty_and_versions_are_versions():
    found = matrix()
    for row in found.hosts:
        assert all((row.tee in {"tdx", "snp"}, row.cpus, row.gpus, row.kernel, row.system))
    for gpu in found.gpus:
        assert re.fullmatch(r"\d+\.\d+\.\d+", gpu.driver)
        assert re.fullmatch(r"\d+\.\d+", gpu.cuda)
        assert gpu.gpu
        assert gpu.mode


def test_no_row_is_there_twice():
    found = matrix()
    assert len(set(found.hosts)) == len(found.hosts)
    assert len(set(found.gpus)) == len(found.gpus)


def test_models_are_known_by_four_hex_digits():
    assert all(re.fullmatch(r"[0-9a-f]{4}", number) for number in matrix().models)


def test_the_least_driver_of_a_model_is_that_of_its_own_rows():
    least = {number: matrix().least_driver(number) for number in (*matrix().models, "1b80")}
    assert (least["2330"], least["233b"], least["2901"]) == ("550.54.15", "580.65.06", "575.57.08")
    assert (least["3182"], least["2bb5"]) == ("590.48.01", "580.65.06")
    assert least.pop("1b80") is None
    assert None not in least.values(), "every model has a row"


def test_every_row_is_of_a_model_or_a_family_of_models():
    found = matrix()
    for row in found.gpus:
        assert any(name.startswith(found.families.get(row.gpu, (row.gpu,))) for name in found.models.values()), row
