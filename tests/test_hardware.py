"""The tables of accelerators and regions: facts with sources, dense rates only, nearest names."""

import pytest

from scaling.hardware import Accelerator, Region


def test_every_row_has_a_source_and_a_date():
    for row in (*Accelerator.all(), *Region.all()):
        assert row.source, row.name
        assert row.source_date[:2] == "20" or "as compiled 20" in row.source, row.name
    for chip in Accelerator.all():
        assert (chip.usd_on_demand is None) or chip.price_date, chip.name


def test_names_and_aliases_are_unique():
    for kind in (Accelerator, Region):
        names = [name for row in kind.all() for name in (row.name, *row.aliases)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "bf16", "watts"),
    [("H100", 989.4, 700), ("a100", 312, 400), ("nvidia h200", 989.5, 700), ("TPU v4", 275, 170), ("b200", 2250, 1000)],
)
def test_named(name, bf16, watts):
    chip = Accelerator.named(name)
    assert chip.peak_flops() == pytest.approx(bf16 * 1e12)
    assert chip.watts == watts


def test_l40s_fp8_is_dense():
    # NVIDIA L40S datasheet: FP8 733 | 1,466 with sparsity.
    assert Accelerator.named("l40s").fp8 == 733


def test_h200_fp32_is_not_its_bf16():
    assert Accelerator.named("h200").peak_flops("fp32") == 67e12
    assert Accelerator.named("h200").peak_flops("fp8") == 1979e12


def test_int4_multiplies_in_16_bits():
    chip = Accelerator.named("h100")
    assert chip.peak_flops("int4") == chip.peak_flops("bf16")


@pytest.mark.parametrize(
    ("kind", "name", "near"), [(Accelerator, "h1000", "h100"), (Region, "us-central", "us-central1")]
)
def test_unknown_names_the_nearest(kind, name, near):
    with pytest.raises(ValueError, match=near):
        kind.named(name)


def test_rate_that_a_chip_has_not():
    with pytest.raises(ValueError, match="no published dense rate in fp8"):
        Accelerator.named("a100").peak_flops("fp8")


def test_own_csv_adds_and_overrides(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("name,bf16,watts,usd_on_demand\nh100-sxm,989,650,1.5\nabacus,0.001,5,\n")
    assert Accelerator.named("h100-sxm", own).usd_on_demand == 1.5
    assert Accelerator.named("abacus", own).peak_flops() == 1e9
    assert Accelerator.named("a100", own).bf16 == 312


def test_own_csv_as_excel_writes_it(tmp_path):
    own = tmp_path / "own.csv"
    own.write_bytes("name,bf16,source\r\nabacus,0.001,é\r\n".encode("utf-8-sig"))
    assert Accelerator.named("abacus", own).source == "é"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,bf16\nh100-sxm,1979\n", "with sparsity"),
        ("name,bf61\nx,1\n", "did you mean bf16"),
        ("name,bf16\nx,many\n", "needed a number"),
        ("name,bf16\n,1\n", "line 2: a row without a name"),
        ("name,bf16\nx,1,2,3\n", r"own.csv, line 2 .x.: 4 cells, needed the 2"),
        ("# mine\nname,bf16\n\ny,1\nx,1,2\n", r"own.csv, line 5 .x.: 3 cells"),
        ("name,bf16,\nx,1,2\n", "own.csv: unknown column ''"),
        ("name,source\nx,caf\xe9\n".encode("latin-1"), "own.csv: not UTF-8 text .byte 17 is 0xe9.. Save it"),
        ("name,bf16\nx,1\n".encode("utf-16"), "own.csv: not UTF-8 text .byte 0 is 0xff"),
    ],
)
def test_bad_csv(tmp_path, text, said):
    own = tmp_path / "own.csv"
    own.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        Accelerator.all(own)
