import numpy as np
import pytest

from model.params import Simulated
from model.rolling import numeric_features, simulated_frame
from model.simulate import CATEGORIES, CHANNELS, DAY, DEVICES, MECHANISMS, PRICE, simulate

STOLEN, SKIMMED, TAKEOVER = (MECHANISMS.index(m) for m in ("stolen_card", "compromised_terminal", "account_takeover"))


@pytest.fixture(scope="module")
def drawn():
    return simulate(Simulated(transactions=100_000, customers=1500, terminals=600, fraud_rate=0.05))


@pytest.fixture(scope="module")
def small():
    params = Simulated(transactions=1000, customers=25, terminals=12, days=60, fraud_rate=0.15, label_delay_days=5)
    return params, *simulate(params)


def test_same_seed_same_bytes_and_another_seed_differs():
    params = Simulated(transactions=2000, customers=50, terminals=30)
    first, again = simulated_frame(params), simulated_frame(params)
    other = simulated_frame(params.model_copy(update={"seed": 1}))
    for name in first.numeric:
        assert first.numeric[name].tobytes() == again.numeric[name].tobytes()
    for name in first.categorical:
        assert first.categorical[name].codes.tobytes() == again.categorical[name].codes.tobytes()
    assert first.label.tobytes() == again.label.tobytes()
    assert first.numeric["amount"].tobytes() != other.numeric["amount"].tobytes()


@pytest.mark.parametrize("rate", [0.002, 0.015, 0.3])
def test_number_of_rows_and_fraud_rate_are_honoured(rate):
    _, rows = simulate(Simulated(transactions=5000, customers=100, terminals=50, fraud_rate=rate))
    assert len(rows.time) == 5000
    assert rows.fraud.sum() == round(5000 * rate)


@pytest.mark.parametrize("world", [{"customers": 1}, {"terminals": 1}, {"customers": 1, "terminals": 1}])
def test_smallest_worlds_work(world):
    frame = simulated_frame(Simulated(transactions=1000, fraud_rate=1e-9, **world))
    assert frame.label.sum() == 3
    assert not any(np.isinf(values).any() for values in frame.numeric.values())


def test_rows_are_in_time_order_within_the_period(drawn):
    _, rows = drawn
    assert (np.diff(rows.time) >= 0).all()
    assert rows.time[0] >= 0
    assert rows.time[-1] < 180 * DAY


def test_each_mechanism_has_its_signature(drawn):
    world, rows = drawn
    honest, stolen, skimmed, takeover = (rows[rows.mechanism == m] for m in range(len(MECHANISMS)))
    assert min(len(part.time) for part in (stolen, skimmed, takeover)) > 200

    def night(part):
        return np.mean(part.time % DAY < 5 * 3600)

    def dear(part):
        return np.median(part.amount / world.spend[part.customer])

    assert night(stolen) > 3 * night(honest)
    assert dear(stolen) > 1.5 * dear(honest)
    # A compromised terminal has several frauds; the share of its own purchases that are frauds is far above the mean.
    frauds, all_rows = np.bincount(skimmed.terminal, minlength=600), np.bincount(rows.terminal, minlength=600)
    hit = frauds > 0
    assert hit.sum() < 100
    assert (frauds[hit] / all_rows[hit]).mean() > 0.1
    assert (takeover.channel == CHANNELS.index("online")).all()
    assert np.mean(takeover.amount < 10) > 0.4
    assert np.mean(takeover.device == DEVICES.index("new_browser")) > 0.3


def test_seasonality_is_daily_and_weekly(drawn):
    world, rows = drawn
    honest = rows[~rows.fraud]
    per_weekday = np.bincount(honest.time // DAY % 7, minlength=7)
    assert per_weekday[5] > 1.2 * per_weekday[6]
    category = world.category[honest.terminal]
    hour = honest.time % DAY // 3600
    morning = [np.mean(hour[category == CATEGORIES.index(name)] < 12) for name in ("fuel", "dining")]
    assert morning[0] > 0.6 > 0.2 > morning[1]


def test_concept_drifts_over_the_days(drawn):
    world, rows = drawn
    early, late = rows[rows.time < 60 * DAY], rows[rows.time >= 120 * DAY]

    def rate(part, mechanism):
        return np.mean(part.mechanism == mechanism)

    assert rate(early, STOLEN) > 1.3 * rate(late, STOLEN)
    assert rate(late, TAKEOVER) > 1.3 * rate(early, TAKEOVER)

    def typical(part, chosen):
        usual = world.spend[part.customer] * PRICE[world.category[part.terminal]]
        return np.median((part.amount / usual)[chosen])

    assert typical(early, early.mechanism == STOLEN) > 1.2 * typical(late, late.mechanism == STOLEN)
    assert typical(late, ~late.fraud) > 1.02 * typical(early, ~early.fraud)
    online = [np.mean(part.channel[~part.fraud] == CHANNELS.index("online")) for part in (early, late)]
    assert online[1] > 1.1 * online[0]


def brute_force(params, world, rows):
    """Rolling features by looking at every pair of rows; independent of the implementation's sorting and sums."""
    t, delay = rows.time, params.label_delay_days * DAY
    age = t[:, None] - t[None, :]
    same_customer = rows.customer[:, None] == rows.customer[None, :]
    same_terminal = rows.terminal[:, None] == rows.terminal[None, :]
    online = rows.channel == CHANNELS.index("online")

    def mean(values, seen):
        count = seen.sum(1)
        return np.where(count > 0, (seen * values).sum(1) / np.maximum(count, 1), np.nan)

    wanted = {}
    for days in (1, 7, 30):
        recent = (age > 0) & (age <= days * DAY)
        wanted[f"customer_count_{days}d"] = (same_customer & recent).sum(1)
        wanted[f"customer_mean_amount_{days}d"] = mean(rows.amount, same_customer & recent)
        wanted[f"terminal_count_{days}d"] = (same_terminal & recent).sum(1)
        known = (age > delay) & (age <= delay + days * DAY)
        wanted[f"terminal_fraud_share_{days}d"] = mean(rows.fraud, same_terminal & known)
    wanted["amount_over_customer_mean"] = rows.amount / mean(rows.amount, same_customer & (age > 0))
    wanted["amount_over_terminal_mean"] = rows.amount / mean(rows.amount, same_terminal & recent)
    wanted["customer_online_share"] = mean(online, same_customer & (age > 0))
    wanted["customer_terminal_count"] = (same_customer & same_terminal & (age > 0)).sum(1)
    # The row before may stand in the same second: order in the file decides.
    earlier = same_customer & np.tri(len(t), k=-1, dtype=bool)
    last = np.where(earlier.any(1), len(t) - 1 - earlier[:, ::-1].argmax(1), -1)
    wanted["seconds_since_previous"] = np.where(last >= 0, t - t[last], np.nan)
    place = np.where(online[:, None], np.nan, world.place_km[rows.terminal])
    moved = np.hypot(*(place - place[last]).T)
    wanted["distance_previous_km"] = np.where(last >= 0, moved, np.nan)
    wanted["distance_home_km"] = np.hypot(*(place - world.home_km[rows.customer]).T)
    return wanted


def test_rolling_features_equal_brute_force(small):
    params, world, rows = small
    got = dict(numeric_features(params, world, rows))
    wanted = brute_force(params, world, rows)
    of_the_moment = {"amount", "hour", "weekday", "night", "weekend", "account_age_days"}
    assert set(got) == set(wanted) | of_the_moment
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=2e-5, err_msg=name)
    assert np.nanmax(got["terminal_fraud_share_7d"]) > 0.2


def test_a_label_shows_only_after_the_delay_and_never_in_its_own_row(small):
    params, world, rows = small
    before = dict(numeric_features(params, world, rows))
    row = int(np.flatnonzero(~rows.fraud)[300])
    rows.mechanism[row] = STOLEN
    after = dict(numeric_features(params, world, rows))
    rows.mechanism[row] = 0
    changed = {name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)}
    assert changed == {f"terminal_fraud_share_{days}d" for days in (1, 7, 30)} - ({"terminal_fraud_share_1d"} - changed)
    moved = np.flatnonzero(before["terminal_fraud_share_30d"] != after["terminal_fraud_share_30d"])
    moved = moved[~np.isnan(before["terminal_fraud_share_30d"][moved])]
    assert (rows.time[moved] > rows.time[row] + params.label_delay_days * DAY).all()
    assert (rows.terminal[moved] == rows.terminal[row]).all()


def test_the_future_does_not_change_features(small):
    params, world, rows = small
    half = np.arange(500)
    whole, early = dict(numeric_features(params, world, rows)), dict(numeric_features(params, world, rows[half]))
    for name, values in early.items():
        np.testing.assert_array_equal(values, whole[name][:500], err_msg=name)


def test_no_feature_names_the_mechanism_or_an_identity():
    frame = simulated_frame(Simulated(transactions=1000, customers=20, terminals=10))
    names = " ".join([*frame.numeric, *frame.categorical])
    assert "mechanism" not in names
    assert not {"customer", "terminal", "fraud"} & {*frame.numeric, *frame.categorical}
    assert 20 <= len(frame.numeric) <= 30
    assert 4 <= len(frame.categorical) <= 6
