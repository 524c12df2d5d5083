import json

import pytest

from ci_tools.errors import DataError
from ci_tools.gates.verdict import Outcome
from ci_tools.report import results
from ci_tools.report.results import FEWEST, LARGEST, LONGEST_NAME, Results, name
from tests.report import cases


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "report/results.json"
    results.write(cases.failing(), path)
    return path


def changed(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("case", cases.CASES)
def test_read_after_write_is_the_same(tmp_path, case):
    path = tmp_path / "results.json"
    made = results.write(cases.CASES[case](), path)
    assert made == cases.CASES[case]() == results.read(path)
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(note="hello"), "note: unknown key"),
        (lambda v: v["verdicts"][0].update(diagnosis="hello"), "diagnosis: unknown key"),
        (lambda v: v.update(schema_version=2), "another schema version"),
        (lambda v: v.update(schema_version=True), "another schema version"),
        (lambda v: v.pop("schema_version"), "another schema version"),
        (lambda v: v.pop("head_sha"), "head_sha: required key is missing"),
        (lambda v: v.update(head_sha="main"), "head_sha"),
        (lambda v: v.update(head_sha="A" * 40), "head_sha"),
        (lambda v: v.update(pull_request="42"), "pull_request"),
        (lambda v: v.update(pull_request=-1), "pull_request"),
        (lambda v: v.update(branch="<b>x</b>"), "branch: a name holds no HTML"),
        (lambda v: v.update(branch="a\nb"), "branch: a name has printable characters only"),
        (lambda v: v.update(branch="a\u202eb"), "branch: a name has printable characters only"),
        (lambda v: v.update(branch="a" * (LONGEST_NAME + 1)), "branch: a name has at most"),
        (lambda v: v.update(branch="##[save-state name=x;]y"), "branch: a name holds no command"),
        (lambda v: v.update(branch="\u3164"), "branch: a name has printable characters only"),
        (lambda v: v.update(branch="a\u0301\u0301\u0301"), "branch: a name has printable characters only"),
        (lambda v: v.update(schema_version=1.0), "another schema version"),
        (lambda v: v["runs"][0].update(seed=10**4000), "runs.0.seed: input should be less than"),
        (lambda v: v["runs"][0].update(seed=-(2**63) - 1), "runs.0.seed: input should be greater than"),
        (lambda v: v["verdicts"][0].update(blocks=True), "verdicts.0: what passed blocks nothing"),
        (lambda v: v["curves"][0].update(early=[{"seed": 2**63, "step": 1}]), "early.0.seed"),
        (lambda v: v.update(created="now"), "created"),
        (lambda v: v["verdicts"][0].update(outcome="fine"), "outcome"),
        (lambda v: v["verdicts"][0].update(statistic="3"), "statistic"),
        (lambda v: v["verdicts"][0].update(blocks=1), "blocks"),
        (lambda v: v["verdicts"][0].update(basis="my own"), "basis"),
        (lambda v: v["verdicts"][0].update(reason="it was dark"), "reason"),
        (lambda v: v["curves"][0].update(step=[1]), "as many values as steps"),
        (lambda v: v["curves"][0].update(of="everything"), "of"),
        (lambda v: v.update(verdicts=v["verdicts"] * 18), "verdicts"),
        (lambda v: v["policy_changes"][0].update(new="rm -rf"), "policy_changes"),
        (lambda v: v["policy_files"][0].update(became="fine"), "policy_files"),
        (lambda v: v.update(fingerprint={"a": "<script>"}), "fingerprint"),
        (lambda v: v.update(gate_seconds=-1), "gate_seconds"),
        (lambda v: v["runs"][0].update(status="great"), "status"),
    ],
)
def test_what_breaks_the_schema_is_one_sentence_that_names_it(written, change, words):
    with pytest.raises(DataError) as refused:
        results.read(changed(written, change))
    assert words in str(refused.value)
    assert "results.json" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value).replace(str(written), "")) < 500


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not strict JSON"),
        (b"{", "is not strict JSON"),
        (b"[]", "must hold an object"),
        (b"\xff\xfe", "is not strict JSON"),
        (b'{"schema_version": NaN}', "NaN is no JSON number"),
        (b'{"schema_version": 1, "a": [-Infinity]}', "Infinity is no JSON number"),
        (b'{"schema_version": 1, "schema_version": 1}', "a key stands twice"),
        (b"[" * 200_000, "is not strict JSON"),
        (b'{"schema_version": 1e999}', "another schema version"),
        (b" " * (LARGEST + 1), "is too large"),
    ],
)
def test_what_is_no_strict_json_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        results.read(path)


def test_no_depth_of_nesting_is_a_traceback(written):
    """Python's reader, its writer and pydantic's reader each give up at a depth of their own."""
    text = written.read_text()
    assert '"base": "origin/main"' in text
    for depth in (10, 150, 250, *range(900, 1010)):
        written.write_text(text.replace('"base": "origin/main"', f'"base": {"[" * depth}{"]" * depth}'))
        with pytest.raises(DataError, match=r"results\.json"):
            results.read(written)


def test_what_no_parser_takes_is_not_quoted_whole(written):
    for content in ("\ud800", "[" * 300 + "]" * 300):
        change = json.loads(content) if content[0] == "[" else content
        with pytest.raises(DataError) as refused:
            results.read(changed(written, lambda v, change=change: v.update(base=change)))
        assert "schema_version" not in str(refused.value)
        assert "column" not in str(refused.value)


def test_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        results.read(tmp_path)


def test_number_beyond_all_floats_is_refused(written):
    text = written.read_text()
    written.write_text(text.replace('"gate_seconds": 15.368', '"gate_seconds": 1e999'))
    with pytest.raises(DataError, match="gate_seconds"):
        results.read(written)


def test_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*switchback report"):
        results.read(tmp_path / "results.json")


def test_hostile_key_does_not_reach_the_terminal(written):
    with pytest.raises(DataError) as refused:
        results.read(changed(written, lambda v: v.update({"\x1b[31m\nkey": 1})))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("sign", ["x", "\u00e9", "\U0001f642"])
def test_largest_results_fit_and_keep_what_blocks(tmp_path, sign):
    long = sign * LONGEST_NAME
    facts = tuple(cases.facts(**{long: long}) * 12)
    verdicts = [cases.judged(long, Outcome.PASSED, 1.0, 2.0, (0.5, 1.5), long, facts=facts)] * 299
    blocking = cases.judged(long, Outcome.FAILED, 3.0, 2.0, (2.5, 3.5), long, facts=facts)
    full = cases.failing().model_copy(update={"verdicts": (*verdicts, blocking), "stages": cases.stages(5) * 22})
    path = tmp_path / "results.json"
    made = results.write(Results.model_validate(full.model_dump()), path)
    assert path.stat().st_size <= LARGEST
    assert results.read(path) == made
    assert made.exit_code == 1
    assert len(made.verdicts) >= FEWEST
    assert made.left_out > 0


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("blocks.0.linear1.weight", "blocks.0.linear1.weight"),
        (">50K", ">50K"),
        ("amount<100", "amount<100"),
        ("a<b", "a\u2039b"),
        ("</x>", "\u2039/x>"),
        ("tab\there", "tab\ufffdhere"),
        ("\ud800", "\ufffd"),
        ("##[add-mask]x", "##\u27e6add-mask]x"),
        ("\u3164", "\ufffd"),
        ("a\ufe0f\u034f", "a\ufffd\ufffd"),
        ("a\u0301\u0323b", "a\u0301\u0323b"),
        ("a\u0301\u0323\u0489\u0301b", "a\u0301\u0323\ufffd\ufffdb"),
        ("", ""),
    ],
)
def test_any_text_becomes_a_name_that_is_allowed(text, allowed):
    assert name(text) == allowed
    assert name(name(text)) == name(text)


def test_unseen_characters_are_those_of_unicodes_list_that_python_prints():
    """Default_Ignorable_Code_Point of DerivedCoreProperties.txt, Unicode 16."""
    listed = (
        "AD 34F 61C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8 "
    )
    listed += "1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"
    for part in listed.split():
        first, _, last = part.partition("-")
        for point in range(int(first, 16), int(last or first, 16) + 1):
            assert name(f"a{chr(point)}b") == "a\ufffdb", hex(point)


@pytest.mark.parametrize("value", [None, True, "1", 10**400, -(10**400), float("nan"), float("inf")])
def test_what_no_float_holds_is_no_number(value):
    assert results.finite(value) is None


def test_long_name_is_cut_visibly():
    assert name("x" * 500) == "x" * (LONGEST_NAME - 1) + "…"


def test_where_to_look_first_is_told_only_where_it_may_explain_another():
    floors = [cases.judged("quality_floor", Outcome.FAILED, subject=metric) for metric in ("a", "b")]
    plateaus = [cases.judged("plateau", Outcome.FAILED, subject=seed) for seed in ("seed-1", "seed-2")]
    assert cases.results(floors).suspect == cases.results(plateaus).suspect == ""
    assert cases.results([*floors, *plateaus]).suspect == "plateau"
    assert cases.results([plateaus[0]]).suspect == ""


def test_cause_is_looked_for_among_what_blocks():
    tolerated = cases.judged("stragglers", Outcome.FAILED, blocks=False)
    blocking = [cases.judged(gate, Outcome.FAILED) for gate in ("plateau", "quality_floor")]
    assert cases.results([tolerated, *blocking]).cause == "plateau"
    assert cases.results([tolerated]).cause == "stragglers"
    assert cases.results([]).cause == ""


@pytest.mark.parametrize(
    ("outcomes", "refused", "code"),
    [
        ([(Outcome.PASSED, False)], False, 0),
        ([(Outcome.FAILED, False), (Outcome.PASSED, False)], False, 0),
        ([(Outcome.INCONCLUSIVE, True)], False, 3),
        ([(Outcome.INCONCLUSIVE, True), (Outcome.ERROR, True)], False, 2),
        ([(Outcome.ERROR, True), (Outcome.FAILED, True)], False, 1),
        ([(Outcome.FAILED, True)], True, 2),
        ([], False, 2),
    ],
)
def test_exit_code_is_that_of_the_gates(outcomes, refused, code):
    verdicts = [cases.judged("g", outcome, blocks=blocks) for outcome, blocks in outcomes]
    assert cases.results(verdicts, refused=refused).exit_code == code
