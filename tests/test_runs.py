"""The record on disk and the table in memory: every reader, every unit, every bad table."""

import errno
import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.fitting.fit import Fit
from scaling.grid import Grid
from scaling.planning.allocate import Subject
from scaling.runs import Run, Runs, record_paths, to_json, write_whole
from scaling.runs.table import COLUMNS

N = np.array([1e6, 2e6, 4e6, 8e6])
D = np.array([80e6, 40e6, 20e6, 10e6])
LOSS = np.array([3.1, 3.0, 3.05, 3.2])


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"N": N, "D": D, "loss": LOSS} | columns)


def write(tmp_path: Path, frame: pd.DataFrame, name: str = "t.csv") -> Path:
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return path


def complaint(path: Path, *args, **options) -> str:
    with pytest.raises(ValueError) as info:  # noqa: PT011 - the tests look at the message
        Runs.read(path, *args, **options)
    message = str(info.value)
    assert "\n" not in message
    assert str(path) in message or "--units" in message or "needed one of" in message
    return message


def records(number: int = 6, **measured) -> list[Run]:
    grid = Grid.of({"budgets": [2e11, 4e11], "sizes": [20_000, 40_000, 80_000]})
    given = {"status": "done", "bits_per_byte": 2.0, "versions": {"jax": "0.10"}, "curve": [[1000, 5.0], [2000, 3.0]]}
    specs = grid.specs("d" * 16)[:number]
    return [Run.of(spec, loss=2.0 + i / 10, loss_se=0.01, **(given | measured)) for i, spec in enumerate(specs)]


# --- the two published tables -----------------------------------------------------------------------------------


def test_published_tables_just_read(shared_data):
    epoch = Runs.read(shared_data / "chinchilla_epoch.csv")
    raw = pd.read_csv(shared_data / "chinchilla_epoch.csv", dtype=str).map(float)
    assert len(epoch) == 245
    assert epoch.flops == "6ND"
    np.testing.assert_array_equal(epoch.N, raw["Model Size"])
    np.testing.assert_array_equal(epoch.C, raw["Training FLOP"])
    np.testing.assert_array_equal(epoch.D, raw["Training FLOP"] / (6 * raw["Model Size"]))
    assert len(Runs.read(shared_data / "chinchilla_toolkit_llm.csv")) == 234


# --- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet", "t.csv.gz", "columns.json", "runs.json"]
)
def test_every_format_gives_the_same_runs(tmp_path, name):
    path, frame = tmp_path / name, table()
    rows = frame.to_dict("records")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name == "columns.json":
        path.write_text(json.dumps(frame.to_dict("list")))
    elif name == "runs.json":
        path.write_text(json.dumps({"runs": rows}))
    elif name == "t.json":
        path.write_text(json.dumps(rows))
    elif name == "t.jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    runs = Runs.read(path)
    np.testing.assert_array_equal(runs.N, N)
    np.testing.assert_array_equal(runs.C, 6 * N * D)
    np.testing.assert_array_equal(runs.loss, LOSS)
    assert runs.digest == Runs.read(write(tmp_path, frame, "again.csv")).digest


def test_semicolons_quotes_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes('\ufeffN;D;loss;note\n1e6;80e6;3.1;"a;b"\n\n2e6;40e6;3.0;c\n'.encode())
    runs = Runs.read(path)
    assert list(runs.N) == [1e6, 2e6]
    assert list(runs.table["note"]) == ["a;b", "c"]


def test_folder_of_records_leaves_out_and_counts_the_failed(tmp_path):
    *done, lost = records()
    for run in done:
        run.write(tmp_path)
    replace(lost, status="failed", loss=None, loss_se=None, reason="diverged at step 3").write(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    runs = Runs.read(tmp_path)
    assert len(runs) == len(done) == len(record_paths(tmp_path)) - 1
    assert (runs.count, runs.flops) == ("N", "exact")
    assert "1 of 6 runs failed" in runs.notes[0]
    assert "diverged" in runs.notes[0]
    assert np.all(np.diff(runs.C) >= 0)
    assert runs.curves[done[0].id][-1] == [2000, 3.0]
    by_products = Runs.read(tmp_path, count="N_matmul")
    np.testing.assert_array_equal(by_products.N, runs.table["N_matmul"])
    np.testing.assert_array_equal(by_products.counting("N").N, runs.N)
    rule = Runs.read(tmp_path, flops="6ND")
    np.testing.assert_array_equal(rule.C, runs.table["C_6nd"])
    assert Runs.read(tmp_path, {"loss": "bits_per_byte"}).loss_unit == "bits per byte"


def test_records_of_two_tokenisers_need_bits_per_byte(tmp_path):
    first, second, *_ = records()
    other = {**second.spec, "shape": {**second.spec["shape"], "vocab": 512}}
    mixed = [first, replace(second, spec=other)]
    with pytest.raises(ValueError, match="tokenisers do not compare"):
        Runs.of(mixed)
    assert len(Runs.of(mixed, loss="bits_per_byte")) == 2


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("count", ["N", "N_nonembedding"])
def test_written_table_reads_back_the_same(tmp_path, suffix, count):
    runs = Runs.of(records()).counting(count)
    again = Runs.read(runs.write(tmp_path / f"table{suffix}"))
    assert (again.count, again.flops, again.digest) == (runs.count, "exact", runs.digest)
    assert list(again.id) == list(runs.id)
    np.testing.assert_array_equal(again.table["learning_rate"], runs.table["learning_rate"])
    assert again.counting("N").digest == Runs.of(records()).digest
    assert Runs.read(again.write(tmp_path / f"twice{suffix}")).digest == runs.digest


def test_written_table_keeps_columns_that_sound_like_others(tmp_path):
    runs = Runs.read(write(tmp_path, table(val_loss=LOSS + 1, params=N * 2)), {"loss": "loss", "N": "N"})
    again = Runs.read(runs.write(tmp_path / "again.csv"))
    assert again.digest == runs.digest
    np.testing.assert_array_equal(again.table["val_loss"], LOSS + 1)


def test_bits_per_byte_survive_writing(tmp_path):
    runs = Runs.of(records(), loss="bits_per_byte")
    again = Runs.read(runs.write(tmp_path / "t.csv"))
    assert (again.loss_unit, again.digest) == ("bits per byte", runs.digest)


def test_every_column_of_a_record_is_documented():
    assert set(Runs.of(records()).counting("N_matmul")._written()) <= set(COLUMNS)


def test_written_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        Runs.of(records()).write(tmp_path / "t.xlsx")


# --- trackers' exports ------------------------------------------------------------------------------------------


def test_wandb_table_of_runs(tmp_path):
    path = tmp_path / "wandb.csv"
    path.write_text(
        '"Name","State","Runtime","config.n_params","tokens (B)","train/loss","eval/loss"\n'
        '"a","finished","12","124000000","2.5","3.4","3.3"\n"b","crashed","3","350000000","7","",""\n'
        '"c","finished","40","350000000","7","3.0","2.9"\n'
    )
    runs = Runs.read(path)
    assert list(runs.id) == ["a", "c"]
    assert list(runs.D) == [2.5e9, 7e9]
    assert list(runs.loss) == [3.3, 2.9]
    assert runs.notes == ("1 of 3 runs left out: 1 crashed.",)


def test_wandb_api_rows_are_nested(tmp_path):
    path = tmp_path / "wandb.json"
    rows = [
        {"name": f"r{i}", "config": {"n_params": n, "tokens": d}, "summary": {"eval/loss": x}}
        for i, (n, d, x) in enumerate(zip(N, D, LOSS))
    ]
    path.write_text(json.dumps(rows))
    np.testing.assert_array_equal(Runs.read(path).loss, LOSS)


def test_wandb_chart_joined_with_its_runs(tmp_path):
    chart = tmp_path / "chart.csv"
    chart.write_text(
        '"Step","a - eval/loss","a - eval/loss__MIN","b - eval/loss","b - eval/loss__MAX"\n'
        "100,4.0,4.0,4.2,4.2\n200,3.5,3.5,,\n300,,,3.0,3.0\n"
    )
    sizes = tmp_path / "runs.csv"
    sizes.write_text("Name,n_params,batch_tokens\na,1000000,65536\nb,2000000,65536\n")
    runs = Runs.read(chart, join=sizes)
    assert list(runs.id) == ["a", "b"]
    assert list(runs.loss) == [3.5, 3.0]
    assert list(runs.D) == [200 * 65536, 300 * 65536]
    assert runs.curves["a"] == [[6553600.0, 4.0], [13107200.0, 3.5]]
    assert "before the end of its run" in runs.notes[0]
    every = Runs.read(chart, join=sizes, checkpoints="all")
    assert len(every) == 4
    assert list(every.group) == ["a", "a", "b", "b"]
    assert "2 of 4 rows are checkpoints" in every.notes[0]
    assert "no row for run 'b'" in complaint(chart, join=write(tmp_path, pd.read_csv(sizes).head(1), "short.csv"))


def test_tensorboard_downloads_in_a_folder(tmp_path):
    curves = tmp_path / "curves"
    curves.mkdir()
    for name, losses in {"small": (5.0, 4.0), "large": (4.5, 3.5)}.items():
        (curves / f"run-{name}-tag-eval_loss.csv").write_text(
            "Wall time,Step,Value\n" + "".join(f"17.5,{100 * (i + 1)},{loss}\n" for i, loss in enumerate(losses))
        )
    (curves / "run-huge-tag-eval_loss.json").write_text("[[17.5, 100, 4.4], [18.5, 200, 3.4]]")
    sizes = tmp_path / "runs.csv"
    sizes.write_text("run,N\nsmall,1e6\nlarge,4e6\nhuge,8e6\n")
    runs = Runs.read(curves, {"tokens_per_step": 524288}, join=sizes)
    assert dict(zip(runs.id, runs.loss)) == {"small": 4.0, "large": 3.5, "huge": 3.4}
    assert set(runs.D) == {200 * 524288}


def test_histories_of_one_run_a_file(tmp_path):
    for name, size in (("small", 1e6), ("large", 4e6)):
        rows = [
            {"_step": i, "n_params": size, "tokens": i * 1e6, "eval/loss": 5.0 - i / 10 if i % 5 == 0 else None}
            for i in range(1, 13)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    runs = Runs.read(tmp_path)
    assert dict(zip(runs.id, runs.N)) == {"large": 4e6, "small": 1e6}
    assert set(runs.D) == {10e6}
    assert set(runs.loss) == {4.0}


def trainer_state(steps: int, loss: float, **more) -> str:
    history = [
        {"step": 10, "loss": 6.0, "epoch": 0.1},
        {"step": steps // 2, "eval_loss": loss + 1},
        {"step": steps, "eval_loss": loss},
        {"step": steps, "total_flos": 6e15, "train_loss": 4.0, "train_runtime": 9.0},
    ]
    return json.dumps({"global_step": steps, "max_steps": steps, "log_history": history} | more)


def test_hugging_face_trainer_states(tmp_path):
    for run, steps, tokens in (("small", 100, 1e9), ("large", 200, 2e9)):
        for checkpoint in (steps // 2, steps):
            folder = tmp_path / run / f"checkpoint-{checkpoint}"
            folder.mkdir(parents=True)
            state = trainer_state(checkpoint, 3.0, total_flos=6e15, num_input_tokens_seen=tokens, max_steps=steps)
            (folder / "trainer_state.json").write_text(state)
    runs = Runs.read(tmp_path)
    assert sorted(runs.id) == ["large", "small"]
    assert runs.count == "N_nonembedding"
    assert sorted(runs.N) == [6e15 / (6 * 2e9), 6e15 / (6 * 1e9)]
    assert list(runs.loss) == [3.0, 3.0]
    assert not any("last loss" in note for note in runs.notes)


def test_hugging_face_run_that_stopped_early_is_noted(tmp_path):
    path = tmp_path / "trainer_state.json"
    path.write_text(trainer_state(100, 3.0, max_steps=1000))
    runs = Runs.read(path, {"N": 124e6, "tokens_per_step": 1e6})
    assert (runs.N[0], runs.D[0], runs.loss[0]) == (124e6, 1e8, 3.0)
    assert any("step 100 of 1000" in note for note in runs.notes)
    path.write_text(json.dumps({"global_step": 5, "log_history": [{"step": 5, "loss": 3.0}]}))
    assert "no eval_loss" in complaint(path)


# --- columns, counts, units -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "loss"),
    [
        ("params", "tokens", "val_loss"),
        ("Parameters", "n_tokens", "final_loss"),
        ("N_PARAMS", "Tokens", "eval/loss"),
        ("Model Size", "Training Tokens", "Validation Loss"),
        ("n params", "num-tokens", "Loss"),
    ],
)
def test_synonyms(tmp_path, n, d, loss):
    runs = Runs.read(write(tmp_path, pd.DataFrame({n: N, d: D, loss: LOSS})))
    np.testing.assert_array_equal(runs.N, N)
    np.testing.assert_array_equal(runs.D, D)
    np.testing.assert_array_equal(runs.loss, LOSS)


@pytest.mark.parametrize("name", ["C", "flops", "compute", "compute_budget", "Training FLOP"])
def test_any_two_give_the_third(tmp_path, name):
    C = 6 * N * D
    for given in ({"N": N, name: C}, {"D": D, name: C}, {"N": N, "D": D, name: C}):
        runs = Runs.read(write(tmp_path, pd.DataFrame({**given, "loss": LOSS})))
        np.testing.assert_allclose([runs.N, runs.D, runs.C], [N, D, C], rtol=1e-15)
        assert runs.flops == "6ND"


def test_exact_flops_are_kept_and_named(tmp_path):
    runs = Runs.read(write(tmp_path, table(C=7 * N * D)))
    assert runs.flops == "exact"
    np.testing.assert_array_equal(runs.C, 7 * N * D)
    assert Runs.read(tmp_path / "t.csv", flops="6ND").C[0] == 6 * N[0] * D[0]


def test_columns_name_what_has_no_name(tmp_path):
    path = write(tmp_path, pd.DataFrame({"size": N, "data": D, "nll": LOSS, "bits": 16}))
    assert "--columns loss=" in complaint(path)
    runs = Runs.read(path, {"N": "size", "D": "data", "loss": "nll"})
    np.testing.assert_array_equal(runs.loss, LOSS)
    assert set(runs.table["bits"]) == {16.0}
    assert "did you mean 'size'" in complaint(path, {"N": "sizes"})
    assert "no such field" in complaint(path, {"params": "size"})


def test_counts(tmp_path):
    path = write(tmp_path, table(non_embedding_params=N / 2))
    assert Runs.read(path).count == "N"
    runs = Runs.read(path, count="N_nonembedding")
    np.testing.assert_array_equal(runs.N, N / 2)
    np.testing.assert_array_equal(runs.counting("N").N, N)
    assert "has N, N_nonembedding" in complaint(path, count="N_matmul")
    assert "needed one of" in complaint(path, count="M")
    only = write(tmp_path, table(N_nonembedding=N / 2).drop(columns="N"), "only.csv")
    assert Runs.read(only).count == "N_nonembedding"


def test_units_stated_anywhere(tmp_path):
    wanted = Runs.read(write(tmp_path, table()))
    stated = [
        (pd.DataFrame({"params (M)": N / 1e6, "tokens_b": D / 1e9, "loss": LOSS}), {}),
        (pd.DataFrame({"N": [f"{n / 1e6:g}M" for n in N], "D": [f"{d / 1e9:g}B" for d in D], "loss": LOSS}), {}),
        (table(N=N / 1e6, D=D / 1e9), {"units": {"N": "millions", "D": "billions"}}),
        (pd.DataFrame({"N": N, "compute (exaflops)": 6 * N * D / 1e18, "loss": LOSS}), {}),
    ]
    for frame, options in stated:
        runs = Runs.read(write(tmp_path, frame, "u.csv"), **options)
        np.testing.assert_allclose([runs.N, runs.D], [wanted.N, wanted.D], rtol=1e-12)


def test_units_refused(tmp_path):
    path = write(tmp_path, table(N=N / 1e6, D=D / 1e6))
    assert "cannot be a number of parameters" in complaint(path)
    assert "cannot be a number of tokens" in complaint(path, units={"N": "millions"})
    assert "no such unit" in complaint(path, units={"N": "dozens"})
    assert "D/N is" in complaint(write(tmp_path, table(N=[1e3, 2e3, 4e3, 8e3], D=[1e11, 2e11, 4e11, 8e11])))
    wrong = write(tmp_path, pd.DataFrame({"params (B)": N, "D": D, "loss": LOSS}))
    assert "cannot be right" in complaint(wrong)


def test_weights_errors_and_groups(tmp_path):
    runs = Runs.read(write(tmp_path, table(weight=[1, 2, 1, 1], stderr=0.01, trunk=["a", "a", "b", "b"])))
    assert list(runs.weight) == [1, 2, 1, 1]
    assert set(runs.loss_se) == {0.01}
    assert list(runs.group) == ["a", "a", "b", "b"]
    plain = Runs.read(write(tmp_path, table()))
    assert plain.weight is None
    assert list(plain.group) == list(plain.id) == ["1", "2", "3", "4"]


def test_a_name_that_repeats_is_a_group(tmp_path):
    runs = Runs.read(write(tmp_path, table(name=["x", "x", "y", "y"])))
    assert list(runs.group) == ["x", "x", "y", "y"]
    assert "resampled together" in runs.notes[0]


def test_mixed_tokenisers(tmp_path):
    path = write(tmp_path, table(tokenizer=["gpt2", "gpt2", "llama", "llama"], bpb=LOSS / 4))
    assert "'tokenizer' has 2 tokenisers (gpt2 in 2 rows, llama in 2 rows)" in complaint(path)
    runs = Runs.read(path, {"loss": "bpb"})
    assert runs.loss_unit == "bits per byte"
    only = write(tmp_path, table(vocab=[256, 256, 50257, 50257], bits_per_byte=LOSS / 4).drop(columns="loss"))
    assert Runs.read(only).loss_unit == "bits per byte"


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("loss", "nan", "loss (column 'loss') is missing or NaN in row 2"),
        ("loss", "", "is missing or NaN in row 2"),
        ("loss", "inf", "is infinite in row 2"),
        ("loss", "0", "is zero in row 2"),
        ("loss", "-1", "is negative in row 2"),
        ("N", "0", "N (column 'N') is zero in row 2"),
        ("D", "-5", "D (column 'D') is negative in row 2"),
        ("N", "big", "column 'N' (N) holds text in row 2: 'big'"),
        ("loss", "1,5", "holds text in row 2"),
        ("D", "true", "holds text in row 2"),
    ],
)
def test_bad_cells_name_row_and_column(tmp_path, column, cell, says):
    frame = table().astype(object)
    frame.loc[1, column] = cell
    assert says in complaint(write(tmp_path, frame))


def test_many_bad_rows_are_counted(tmp_path):
    frame = pd.concat([table()] * 5, ignore_index=True).assign(seed=range(20), loss=-1.0)
    assert "is negative in rows 1, 2, 3, 4, 5, 6 and 14 more" in complaint(write(tmp_path, frame))


def test_duplicates(tmp_path):
    frame = pd.concat([table(), table().head(1)])
    assert "rows 1, 5: the same in every column" in complaint(write(tmp_path, frame))
    runs = Runs.read(write(tmp_path, frame.assign(seed=range(5))))
    assert "rows 1, 5 repeat" in runs.notes[0]


def test_ambiguous_and_missing_columns(tmp_path):
    path = write(tmp_path, table(val_loss=LOSS + 0.1))
    assert "'loss' and 'val_loss' both fit loss; say which with --columns loss=loss" in complaint(path)
    assert Runs.read(path, {"loss": "val_loss"}).loss[0] == LOSS[0] + 0.1
    assert Runs.read(write(tmp_path, table(params=N))).N[0] == N[0]
    assert "found D of N, D and C; needed two" in complaint(write(tmp_path, table().drop(columns="N")))


def test_compute_that_disagrees(tmp_path):
    C = 6 * N * D
    path = write(tmp_path, table(C=C * [1, 1, 3, 1]))
    message = complaint(path)
    assert "more than 2x in row 3 (C/6ND = 3 in row 3)" in message
    assert Runs.read(path, {"C": ""}).C[2] == C[2]
    assert Runs.read(path, {"D": ""}).D[2] == 3 * D[2]
    assert Runs.read(path, {"N": ""}).N[2] == 3 * N[2]
    assert Runs.read(path, flops="exact").C[2] == 3 * C[2]


def test_broken_files(tmp_path):
    bad = {
        "empty.csv": b"",
        "blank.csv": b"\n\n",
        "header.csv": b"N,D,loss\n",
        "ragged.csv": b"N,D,loss\n1e6,1e7,3\n1e6,1e7\n",
        "latin.csv": b"N,D,loss\n1e6,1e7,3\xe9\n",
        "twice.csv": b"N,N,loss\n1,2,3\n",
        "cut.json": b'[{"N": 1',
        "cut.jsonl": b'{"N": 1e6, "D": 1e7, "loss": 3}\n{"N": \n',
        "number.json": b"3",
        "cut.parquet": b"PAR1xxxx",
        "t.xlsx": b"PK",
        "cut.csv.gz": b"\x1f\x8b\x08",
    }
    said = {}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        said[name] = complaint(tmp_path / name)
    assert "empty" in said["empty.csv"]
    assert "no rows" in said["header.csv"]
    assert "row 2 has 2 cells, the header has 3" in said["ragged.csv"]
    assert "two columns are named 'N'" in said["twice.csv"]
    assert "line 2" in said["cut.jsonl"]
    assert "not a table" in said["t.xlsx"]
    assert "no such file" in complaint(tmp_path / "absent.csv")
    (tmp_path / "nothing").mkdir()
    assert "no run record, table or trainer_state.json" in complaint(tmp_path / "nothing")


def test_all_failed(tmp_path):
    assert "no finished run" in complaint(write(tmp_path, table(State="failed")))
    with pytest.raises(ValueError, match="no finished run"):
        Runs.of([replace(run, status="failed", loss=None) for run in records()])


def test_damaged_and_newer_records(tmp_path):
    path = records()[0].write(tmp_path)
    record = json.loads(path.read_text())
    path.write_text(to_json(record | {"schema": 99}))
    assert "newer version" in complaint(path.parent)
    path.write_text("{")
    assert "damaged record" in complaint(path.parent)


def test_the_wrong_kind_of_file_is_called_what_it_is(tmp_path):
    record = records()[0].write(tmp_path)
    for read in (Fit.read, Subject.read):
        with pytest.raises(ValueError, match=r"a run's record, not a fit\. `scaling fit "):
            read(record)
    fit = tmp_path / "fit.json"
    fit.write_text((Path(__file__).parents[1] / "fits" / "quickstart-chinchilla.json").read_text())
    other = tmp_path / "other.json"
    other.write_text('{"schema": 1}')
    for path, says in ((fit, "a fit, not a run's record"), (other, "not a run's record")):
        with pytest.raises(ValueError, match=says) as raised:
            Run.read(path)
        assert "Move it away" not in str(raised.value)
    for name in ("absent", "absent.csv"):
        assert "no such file or folder" in complaint(tmp_path / name)


def test_ten_thousand_rows_read_in_little_memory(tmp_path):
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(6, 9, 10_000)
    path = write(tmp_path, pd.DataFrame({"N": sizes, "D": sizes * 20, "loss": rng.uniform(2, 4, 10_000)}))
    tracemalloc.start()
    assert len(Runs.read(path)) == 10_000
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_whole(path, "new")
    assert raised.value.filename == str(path)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]
