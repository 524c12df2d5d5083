"""Features of simulated transactions: what a scoring system knows at the moment of each transaction.

Every window is half open, [t - delay - length, t - delay): a row sees neither itself, nor a row of its own second,
nor a later one. Fraud is known `label_delay_days` after the fact. No loop runs over rows, customers or terminals: rows
are grouped by entity, and a window is two binary searches in the keys and one difference of a running sum.
"""

import numpy as np

from model.frame import Array, Codes, Frame
from model.params import Simulated
from model.simulate import CATEGORIES, CHANNELS, DAY, DEVICES, REGIONS, SEGMENTS, Transactions, World, simulate

WINDOWS_DAYS = (1, 7, 30)
_ONLINE = CHANNELS.index("online")


class History:
    """Rows of each entity in time order.

    Args:
        entity: integers [N].
        time: int64 seconds [N], ascending.
        reach: the furthest that a window looks back, in seconds.
    """

    def __init__(self, entity: Array, time: Array, reach: int) -> None:
        self.order = np.argsort(entity, kind="stable")
        # Entities lie further apart than a window reaches, so that no window touches a neighbour.
        span = int(time[-1]) + reach + 1
        self.key = entity[self.order].astype(np.int64) * span + time[self.order]
        self.group = np.searchsorted(self.key, self.key - time[self.order], side="left")

    def window(self, length: int | None, delay: int = 0) -> tuple[Array, Array]:
        """First and past-the-last position of each row's window; `length` None reaches to the entity's first row."""
        last = np.searchsorted(self.key, self.key - delay, side="left")
        first = self.group if length is None else np.searchsorted(self.key, self.key - delay - length, side="left")
        return first, last

    def total(self, values: Array, window: tuple[Array, Array]) -> Array:
        """float64 [N]: sum of `values` over each row's window, in the order of the rows."""
        running = np.concatenate([[0.0], values[self.order].cumsum(dtype=np.float64)])
        return self._back(running[window[1]] - running[window[0]])

    def count(self, window: tuple[Array, Array]) -> Array:
        """float64 [N]: rows in each row's window."""
        return self._back((window[1] - window[0]).astype(np.float64))

    def previous(self, values: Array) -> Array:
        """float64 [N]: value of the entity's row before; NaN for its first."""
        ordered = values[self.order].astype(np.float64)
        before = np.concatenate([[np.nan], ordered[:-1]])
        before[self.group == np.arange(len(before))] = np.nan
        return self._back(before)

    def _back(self, ordered: Array) -> Array:
        out = np.empty_like(ordered)
        out[self.order] = ordered
        return out


def simulated_frame(params: Simulated) -> Frame:
    """Simulate and featurise; rows are in time order."""
    world, rows = simulate(params)
    return Frame(
        source="simulated card transactions",
        numeric={name: values.astype(np.float32) for name, values in numeric_features(params, world, rows)},
        categorical={
            "merchant_category": _codes(CATEGORIES, world.category[rows.terminal]),
            "channel": _codes(CHANNELS, rows.channel),
            "region": _codes(REGIONS, world.region[rows.terminal]),
            "device": _codes(DEVICES, rows.device),
            "segment": _codes(SEGMENTS, world.segment[rows.customer]),
        },
        label=rows.fraud,
        label_name="fraud",
        time=rows.time.astype(np.float64),
        units={"amount": "currency", "distance_home_km": "km", "distance_previous_km": "km", "hour": "h"},
    )


def numeric_features(params: Simulated, world: World, rows: Transactions) -> list[tuple[str, Array]]:
    """Name and values [N] of each numeric column; NaN where there is nothing to look back on."""
    reach = (max(WINDOWS_DAYS) + params.label_delay_days) * DAY
    return [
        *_moment(world, rows),
        *_customer(world, rows, History(rows.customer, rows.time, reach)),
        *_terminal(rows, History(rows.terminal, rows.time, reach), params.label_delay_days * DAY),
        *_pair(rows, reach),
    ]


def _moment(world: World, rows: Transactions) -> list[tuple[str, Array]]:
    hour = (rows.time % DAY / 3600).astype(np.float32)
    weekday = rows.time // DAY % 7
    return [
        ("amount", rows.amount.astype(np.float32)),
        ("hour", hour),
        ("weekday", weekday.astype(np.float32)),
        ("night", ((hour < 6) | (hour >= 23)).astype(np.float32)),
        ("weekend", (weekday >= 5).astype(np.float32)),
        ("account_age_days", (world.age_days[rows.customer] + rows.time / DAY).astype(np.float32)),
    ]


def _customer(world: World, rows: Transactions, history: History) -> list[tuple[str, Array]]:
    in_shop = rows.channel != _ONLINE
    place = np.where(in_shop[:, None], world.place_km[rows.terminal], np.nan)
    before = np.stack([history.previous(place[:, 0]), history.previous(place[:, 1])], axis=1)
    features = [
        ("distance_home_km", np.linalg.norm(place - world.home_km[rows.customer], axis=1).astype(np.float32)),
        ("distance_previous_km", np.linalg.norm(place - before, axis=1).astype(np.float32)),
        ("seconds_since_previous", (rows.time - history.previous(rows.time)).astype(np.float32)),
    ]
    del place, before
    for days in WINDOWS_DAYS:
        window = history.window(days * DAY)
        count = history.count(window)
        features.append((f"customer_count_{days}d", count.astype(np.float32)))
        mean = _share(history.total(rows.amount, window), count)
        features.append((f"customer_mean_amount_{days}d", mean.astype(np.float32)))
    ever = history.window(None)
    count = history.count(ever)
    mean = _share(history.total(rows.amount, ever), count)
    online = _share(history.total(~in_shop, ever), count)
    features.append(("amount_over_customer_mean", (rows.amount / mean).astype(np.float32)))
    features.append(("customer_online_share", online.astype(np.float32)))
    return features


def _terminal(rows: Transactions, history: History, delay: int) -> list[tuple[str, Array]]:
    features = []
    for days in WINDOWS_DAYS:
        window = history.window(days * DAY)
        count = history.count(window)
        features.append((f"terminal_count_{days}d", count.astype(np.float32)))
        known = history.window(days * DAY, delay)
        share = _share(history.total(rows.fraud, known), history.count(known))
        features.append((f"terminal_fraud_share_{days}d", share.astype(np.float32)))
    mean = _share(history.total(rows.amount, window), count)
    features.append(("amount_over_terminal_mean", (rows.amount / mean).astype(np.float32)))
    return features


def _pair(rows: Transactions, reach: int) -> list[tuple[str, Array]]:
    """How often the customer was at this terminal before."""
    pair = rows.customer.astype(np.int64) * (int(rows.terminal.max()) + 1) + rows.terminal
    # Numbered densely, or the keys of many customers and terminals would overflow 64 bits.
    history = History(np.unique(pair, return_inverse=True)[1], rows.time, reach)
    return [("customer_terminal_count", history.count(history.window(None)).astype(np.float32))]


def _share(total: Array, count: Array) -> Array:
    """Quotient; NaN where count is 0."""
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _codes(values: tuple[str, ...], codes: Array) -> Codes:
    return Codes(values, codes.astype(np.int32))
