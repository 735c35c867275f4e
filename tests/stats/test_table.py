from __future__ import annotations

import math

import pandas as pd
import pytest

from layover.errors import ObservationsError
from layover.stats.table import check, read_table

GOOD = "strategy,source,target,seed,value\ndirect,,rte,1,60\nstilts,mnli,rte,1,65.5\n"


def problems_of(action):
    with pytest.raises(ObservationsError) as caught:
        action()
    return [str(problem) for problem in caught.value.problems]


def written(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    return path


def test_a_csv_with_five_columns_gets_the_others(tmp_path):
    frame = read_table(written(tmp_path, GOOD), against="direct")
    first = frame.to_dict("records")[0]
    assert first == {
        "strategy": "direct", "source": "", "target": "rte", "seed": 1, "value": 60.0, "encoder": "", "role": "target",
        "size": 0, "source_size": 0, "metric": "", "status": "ok", "primary": True, "key": "", "split": "",
        "condition": "", "rows": 0,
    }  # fmt: skip


def test_parquet_reads_as_csv_does(tmp_path):
    frame = read_table(written(tmp_path, GOOD))
    frame.to_parquet(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "scores.parquet"), frame)


def test_a_missing_column_names_the_nearest(tmp_path):
    [problem] = problems_of(lambda: read_table(written(tmp_path, GOOD.replace("value", "values"))))
    assert "scores.csv: there is no column 'value'" in problem
    assert "did you mean 'values'?" in problem


def test_all_problems_come_at_once_with_line_column_and_value(tmp_path):
    text = "strategy,source,target,seed,value,status\n"
    text += "stilts,mnli,rte,1,high,ok\nstilts,mnli,cb,one,50,ok\nstilts,mnli,copa,1,250,odd\nstilts,mnli,wic,1,,ok\n"
    text += "stilts,mnli,boolq,1,70,ok\nstilts,mnli,boolq,1,71,ok\n"
    found = "\n".join(problems_of(lambda: read_table(written(tmp_path, text), against="direct")))
    for part in [
        "scores.csv, line 2, column value: 'high'", "scores.csv, line 3, column seed: 'one'",
        "scores.csv, line 4, column value: 250 is out of range", "scores.csv, line 4, column status: 'odd'",
        "scores.csv, line 5, column value: '': there is no value",
        "scores.csv, line 7, column value: a second value for", "the first is line 6",
        "no row has strategy 'direct'",
    ]:  # fmt: skip
        assert part in found


def test_a_failed_run_needs_no_value_and_an_ok_run_does(tmp_path):
    frame = read_table(written(tmp_path, GOOD.replace("value\n", "value,status\n").replace("60\n", ",failed\n").replace(
        "65.5\n", "65.5,ok\n")))  # fmt: skip
    assert math.isnan(frame.to_dict("records")[0]["value"])


def test_shares_instead_of_points_are_refused(tmp_path):
    [problem] = problems_of(lambda: read_table(written(tmp_path, GOOD.replace("60", "0.6").replace("65.5", "0.655"))))
    assert "multiply shares by 100" in problem


def test_several_metrics_need_a_word_on_which_is_primary():
    rows = [{"strategy": "direct", "source": "", "target": "mrpc", "seed": 1, "value": 60, "metric": m} for m in "ab"]
    [problem] = problems_of(lambda: check(rows))
    assert "target 'mrpc' has several metrics: a, b" in problem
    assert len(check([row | {"primary": row["metric"] == "a"} for row in rows])) == 2


@pytest.mark.parametrize("text", ["", "strategy,source,target,seed,value\n"])
def test_an_empty_file_is_a_user_error(tmp_path, text):
    assert problems_of(lambda: read_table(written(tmp_path, text)))


def test_no_file_is_a_user_error(tmp_path):
    assert "there is no such file" in problems_of(lambda: read_table(tmp_path / "none.csv"))[0]


def test_names_that_pandas_takes_for_missing_stay_names(tmp_path):
    frame = read_table(written(tmp_path, GOOD.replace("mnli", "NA")))
    assert frame["source"].tolist() == ["", "NA"]
