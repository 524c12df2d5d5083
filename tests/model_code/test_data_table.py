import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ci_tools.errors import ConfigError, DataError
from model.params import Table
from model.table import read_table

GOOD = "age,city,label\n30.5,Oslo,yes\n40,Bern,no\n50,Oslo,no\n"


@pytest.fixture
def read(tmp_path):
    def read(content, name="rows.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(Table(path=str(path), **options))

    return read


def test_csv_is_read_with_its_roles(read):
    frame = read(GOOD)
    assert frame.numeric["age"].tolist() == [30.5, 40, 50]
    column = frame.categorical["city"]
    assert [column.values[code] for code in column.codes] == ["Oslo", "Bern", "Oslo"]
    assert (frame.positive, frame.negative, frame.label.tolist()) == ("yes", "no", [True, False, False])
    assert frame.time is None


def test_missing_spellings_and_blanks_are_trimmed(read):
    frame = read("age,city,label\n ? ,  Oslo,yes \nNA,,no\n 7.5,nan,no\n")
    np.testing.assert_array_equal(frame.numeric["age"], [np.nan, np.nan, 7.5])
    assert frame.categorical["city"].values == ("Oslo",)
    assert frame.categorical["city"].codes.tolist() == [0, -1, -1]
    assert frame.positive == "yes"


def test_own_missing_spellings_replace_the_usual_ones(read):
    frame = read("age,city,label\n-999,NA,1\n5.5,x,0\n6.5,x,0\n", missing=("-999",))
    assert np.isnan(frame.numeric["age"][0])
    assert frame.categorical["city"].values == ("NA", "x")


@pytest.mark.parametrize(
    ("values", "numeric"),
    [
        ([str(i % 20) for i in range(60)], False),
        ([str(i % 21) for i in range(60)], True),
        (["0.5", "1", "2"] * 20, True),
        ([*["1.0", "2.0"] * 29, "", "1"], False),
        (["1e3", "-2.5"] * 30, True),
        ([*["1.5"] * 59, "many"], False),
    ],
)
def test_role_rule(read, values, numeric):
    content = "x,other,label\n" + "".join(f"{value},a,{i % 3 == 0}\n" for i, value in enumerate(values))
    assert ("x" in read(content).numeric) is numeric
    assert "x" in read(content, categorical=("x",)).categorical
    if values[-1] != "many":
        assert "x" in read(content, numeric=("x",)).numeric
    assert set(read(content, exclude=("x",)).categorical) == {"other"}


@pytest.mark.parametrize(
    ("labels", "positive", "wanted"),
    [
        ("ABB", "", "A"),
        ("AAB", "", "B"),
        ("1010", "", "1"),
        ("ABB", "B", "B"),
    ],
)
def test_rarer_label_is_positive_unless_named(read, labels, positive, wanted):
    frame = read("x,label\n" + "".join(f"v,{label}\n" for label in labels), positive=positive)
    assert frame.positive == wanted
    assert frame.label.tolist() == [label == wanted for label in labels]


@pytest.fixture
def new_york(monkeypatch):
    with monkeypatch.context() as context:
        context.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("new_york")
def test_dates_become_seconds_wherever_the_machine_is_and_numbers_keep_their_unit(read):
    dates = read("t,x,label\n2024-01-02,a,1\n2024-01-01T12:00:00,b,0\n2024-01-01T13:00:00+01:00,b,0\n", time="t")
    assert dates.time - dates.time[1] == pytest.approx([43_200, 0, 0])
    assert dates.gap_unit == 86_400
    numbers = read("t,x,label\n3,a,1\n1.5,b,0\n2,b,0\n", time="t")
    assert numbers.time.tolist() == [3, 1.5, 2]
    assert numbers.gap_unit == 1
    assert "t" not in {**numbers.numeric, **numbers.categorical}


def test_quotes_crlf_bom_and_blank_lines_are_csv(read):
    frame = read('\ufeff\r\nage,city,label\r\n1.5,"Oslo, ""N""\r\nbis",1\r\n\r\n2.5,Bern,0\r\n')
    assert frame.categorical["city"].values == ('Oslo, "N"\r\nbis', "Bern")
    assert frame.numeric["age"].tolist() == [1.5, 2.5]


def test_quoted_line_ends_are_read_across_blocks(read):
    n = 150_000
    frame = read("x,label\n" + '"a\nb, c",1\n' * (n - 1) + "d,0\n")
    assert frame.categorical["x"].values == ("a\nb, c", "d")
    assert len(frame.label) == n


def test_parquet_gives_what_csv_gives(tmp_path, read):
    csv = read(GOOD)
    table = pa.table({"age": [30.5, 40.0, 50.0], "city": ["Oslo", "Bern", "Oslo"], "label": ["yes", "no", "no"]})
    pq.write_table(table.set_column(1, "city", table["city"].dictionary_encode()), tmp_path / "rows.parquet")
    parquet = read_table(Table(path=str(tmp_path / "rows.parquet")))
    np.testing.assert_array_equal(parquet.numeric["age"], csv.numeric["age"])
    assert parquet.categorical["city"].values == csv.categorical["city"].values
    np.testing.assert_array_equal(parquet.label, csv.label)


def test_parquet_types_keep_their_values(tmp_path):
    moments = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[us]")
    table = pa.table(
        {
            "when": moments,
            "x": pa.array([0.1, None, np.nan]),
            "flag": [True, False, True],
            "label": [1, 0, 0],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    frame = read_table(Table(path=str(tmp_path / "rows.parquet"), time="when"))
    assert np.diff(frame.time).tolist() == [86_400, 86_400]
    np.testing.assert_array_equal(frame.numeric["x"], np.array([0.1, np.nan, np.nan], np.float32))
    assert frame.categorical["flag"].values == ("true", "false")
    assert frame.label.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "rows.csv: the file is empty"),
        ("\n\n", {}, "rows.csv:2: the first line is not a header"),
        ("a,b,label\n1,2,0\n1,2\n1,2,1\n", {}, "rows.csv:3: 2 fields where the header has 3"),
        ("a,b,label\n1,2,0\n\n1,2,0,9\n", {}, "rows.csv:4: 4 fields where the header has 3"),
        ('a,b,label\n"x\ny",2,0\n1\n', {}, "rows.csv:4: 1 fields where the header has 3"),
        ("1.5,Oslo,yes\n2,Bern,no\n", {}, "the first line is not a header: '1.5' is no column name.*add a header line"),
        ("a,,label\n1,2,0\n", {}, "the first line is not a header: '' is no column name"),
        ("a,b,a,label\n1,2,3,0\n", {}, "column 'a' occurs more than once"),
        ("a,label\n", {}, "there are no rows"),
        (GOOD, {"label": "lable"}, "there is no column 'lable'.*did you mean 'label'"),
        (GOOD, {"label": "zzz"}, "there is no column 'zzz'.*use one of age, city, label"),
        (GOOD, {"time": "wen"}, r"there is no column 'wen'; data\.table\.time names it"),
        (GOOD, {"numeric": ("agee",)}, r"data\.table\.numeric names it.*did you mean 'age'"),
        (GOOD, {"categorical": ("town",)}, r"there is no column 'town'; data\.table\.categorical names it"),
        (GOOD, {"exclude": ("id",)}, r"there is no column 'id'; data\.table\.exclude names it"),
        (GOOD, {"numeric": ("city",)}, "row 1 of column 'city' holds 'Oslo', not a number"),
        (GOOD, {"exclude": ("age", "city")}, "no column is left to learn from"),
        (GOOD, {"positive": "maybe"}, "label 'label' never holds 'maybe'.*use 'yes' or 'no'"),
        ("a,label\nx,1\ny,1\n", {}, r"label 'label' has 1 distinct value \('1'\); it must hold exactly two"),
        ("a,label\nx,1\ny,2\nz,3\n", {}, r"label 'label' has 3 distinct values \('1', '2', '3'\)"),
        ("a,label\nx,1\ny,\nz,NA\nw,0\n", {}, "label 'label' is missing in 2 of 4 rows; every row needs a label"),
        ("a,b,label\n,x,1\n?,y,0\n", {}, "column 'a' has no value in any row.*data.table.exclude"),
        ("a,label\n1.5,1\ninf,0\n", {}, "row 2 of column 'a' holds inf; numbers are finite float32"),
        ("a,label\n1.5,1\n2,0\n-Infinity,0\n", {}, "row 3 of column 'a' holds -inf"),
        ("a,label\n1.5,1\n1e300,0\n", {}, r"row 2 of column 'a' holds 1e\+300"),
        ("t,a,label\n2024-01-01,x,1\n2024-13-01,y,0\n", {"time": "t"}, "row 2 of time column 't' holds '2024-13-01'"),
        ("t,a,label\n2024-01-01,x,1\n,y,0\n", {"time": "t"}, "row 2 of time column 't' is empty"),
        ("t,a,label\n1,x,1\n,y,0\n", {"time": "t"}, "row 2 of time column 't' is empty"),
        ("t,a,label\n1,x,1\ninf,y,0\n", {"time": "t"}, "row 2 of time column 't' holds 'inf'"),
        ("a,label\nx,1\n" + "y" * 200_000 + "\n", {}, "not readable as CSV|field larger than"),
        ("y" * 200_000 + "\n", {}, "the first line is not a header .field larger"),
        (b"a,label\nx,1\n\xff\xfe,0\n", {}, "rows.csv:3: not UTF-8"),
        (b"\xffa,label\nx,1\n", {}, "rows.csv:1: not UTF-8"),
    ],
)
def test_bad_csv_gets_one_exact_error(read, content, options, message):
    with pytest.raises(DataError, match=f"(?s){message}") as caught:
        read(content, **options)
    assert "rows.csv" in str(caught.value)
    assert caught.value.exit_code == 2


def test_bad_files_are_named(read, tmp_path):
    with pytest.raises(DataError, match=r"unknown suffix '.xlsx'"):
        read("a", name="rows.xlsx")
    with pytest.raises(DataError, match="not a Parquet file"):
        read(GOOD, name="rows.parquet")
    with pytest.raises(DataError, match="no such file"):
        read_table(Table(path=str(tmp_path / "gone.csv")))
    with pytest.raises(DataError, match="no such file"):
        read_table(Table(path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"data\.table\.path is empty"):
        read_table(Table())


def test_a_column_with_two_roles_is_refused(read):
    with pytest.raises(ConfigError, match=r"'age' is listed in data.table.numeric and categorical"):
        read(GOOD, numeric=("age",), categorical=("age",))


def test_nested_parquet_columns_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [[1], [2]], "label": [0, 1]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="column 'x' has type list"):
        read_table(Table(path=str(tmp_path / "rows.parquet")))


def test_one_word_among_numbers_does_not_turn_the_column_into_categories(read):
    rows = ["a,label", *(f"{i}.5,{i % 2}" for i in range(100)), "1O1,0"]
    with pytest.raises(DataError, match=r"row 101 of column 'a' holds '1O1' among numbers"):
        read("\n".join(rows))
    assert len(read("\n".join(rows), categorical=("a",)).categorical["a"].values) == 101
    assert np.isnan(read("\n".join(rows), missing=("1O1",)).numeric["a"][100])


def test_words_with_some_numbers_among_them_stay_categories(read):
    rows = ["a,label", *(f"{i if i % 4 else f'w{i}'},{i % 2}" for i in range(100))]
    assert "w4" in read("\n".join(rows)).categorical["a"].values
