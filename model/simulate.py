"""Card transactions made up from customers, terminals and three fraud mechanisms.

Shapes: N = transactions, C = customers, T = terminals. Times are whole seconds since the first midnight, a Monday.

stolen card            a burst of dear purchases within hours, often at night, where the owner does not shop
compromised terminal   for weeks one terminal takes part in purchases that look like those of its regular customers
account takeover       minutes of tiny test payments online, then dear ones, often from a device not seen before

Over the days stolen cards become rarer and their amounts more modest, takeovers become common, prices and the online
share grow. Trips, sprees and new devices make honest customers look like fraud, so no model can be perfect.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from model.frame import Array
from model.params import Simulated

DAY = 86_400
CATEGORIES = ("grocery", "fuel", "dining", "fashion", "electronics", "travel", "pharmacy", "gaming", "jewellery", "bar")
CHANNELS = ("chip", "contactless", "swipe", "online")
DEVICES = ("card", "phone", "browser", "app", "new_browser")
REGIONS = ("north", "north_east", "east", "south_east", "south", "south_west", "west", "north_west")
SEGMENTS = ("student", "standard", "premium", "business")
MECHANISMS = ("none", "stolen_card", "compromised_terminal", "account_takeover")

# Typical price over the customer's spending level, and the hour that a category's purchases centre on.
PRICE = np.array([0.8, 1.1, 0.7, 1.6, 3.0, 4.0, 0.5, 0.4, 4.5, 0.6])
_PEAK = np.array([17.0, 9.0, 19.0, 15.0, 15.0, 12.0, 11.0, 21.0, 14.0, 22.5])
_FRAUD_MIX = np.array([0.36, 0.30, 0.34])
_WEEK = np.array([0.9, 0.9, 0.95, 1.0, 1.2, 1.25, 0.8])
_FAVOURITES = 6


class World(NamedTuple):
    """What does not change over time."""

    home_km: Array
    """float32 [C, 2] where a customer lives."""
    spend: Array
    """float64 [C] typical amount."""
    activity: Array
    """float64 [C] cumulative share of transactions."""
    online: Array
    """float64 [C] share of purchases made online."""
    segment: Array
    """int8 [C] into SEGMENTS."""
    age_days: Array
    """float32 [C] age of the account on the first day."""
    favourites: Array
    """int32 [C, 6] terminals where a customer usually shops, the favourite first."""
    place_km: Array
    """float32 [T, 2] where a terminal stands."""
    category: Array
    """int8 [T] into CATEGORIES."""
    region: Array
    """int8 [T] into REGIONS."""
    shops: Array
    """int32 terminals one walks to."""
    web: Array
    """int32 terminals of web shops."""


@dataclass(frozen=True, kw_only=True)
class Transactions:
    """N transactions; `mechanism` and `fraud` are truth, not features."""

    time: Array
    """int64 [N] seconds."""
    customer: Array
    """int32 [N]."""
    terminal: Array
    """int32 [N]."""
    amount: Array
    """float64 [N] in currency units, whole cents."""
    channel: Array
    """int8 [N] into CHANNELS."""
    device: Array
    """int8 [N] into DEVICES; -1 where it was not recorded."""
    mechanism: Array
    """int8 [N] into MECHANISMS."""

    @property
    def fraud(self) -> Array:
        """Truth, bool [N]."""
        return self.mechanism > 0

    def __getitem__(self, rows: Array) -> "Transactions":
        """The chosen rows, in the order given."""
        return Transactions(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def simulate(params: Simulated) -> tuple[World, Transactions]:
    """Draw `params.transactions` rows in time order, `fraud_rate` of them fraudulent (rounded to a row).

    Law: equal params give equal bytes.
    """
    rng = np.random.default_rng(params.seed)
    world = _world(params, rng)
    frauds = max(len(_FRAUD_MIX), round(params.transactions * params.fraud_rate))
    honest = _honest(params, world, params.transactions - frauds, rng)
    stolen, skimmed = np.floor(frauds * _FRAUD_MIX[:2]).astype(int)
    parts = (
        honest,
        _stolen_card(params, world, stolen, rng),
        _compromised_terminal(params, world, honest, skimmed, rng),
        _account_takeover(params, world, frauds - stolen - skimmed, rng),
    )
    rows = Transactions(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Transactions)})
    return world, rows[np.argsort(rows.time, kind="stable")]


def _world(params: Simulated, rng: np.random.Generator) -> World:
    customers, terminals = params.customers, params.terminals
    centre_km = rng.uniform(0, 600, (len(REGIONS), 2))
    region = rng.integers(len(REGIONS), size=terminals)
    place_km = (centre_km[region] + rng.normal(0, 18, (terminals, 2))).astype(np.float32)
    home_km = centre_km[rng.integers(len(REGIONS), size=customers)] + rng.normal(0, 18, (customers, 2))
    split = max(1, terminals // 5)
    web, shops = np.arange(split, dtype=np.int32), np.arange(split, terminals, dtype=np.int32)
    shops = shops if len(shops) else web
    favourites = np.empty((customers, _FAVOURITES), np.int32)
    for slot in range(_FAVOURITES):
        near = rng.choice(shops, (customers, 24))
        distance = np.square(place_km[near] - home_km[:, None]).sum(axis=2)
        favourites[:, slot] = near[np.arange(customers), distance.argmin(axis=1)]
    segment = rng.choice(len(SEGMENTS), customers, p=[0.2, 0.5, 0.2, 0.1])
    activity = rng.gamma(2.0, 1.0, customers).cumsum()
    return World(
        home_km=home_km.astype(np.float32),
        spend=np.array([12.0, 22.0, 45.0, 70.0])[segment] * rng.lognormal(0, 0.35, customers),
        activity=activity / activity[-1],
        online=rng.beta(2, 5, customers),
        segment=segment.astype(np.int8),
        age_days=rng.gamma(1.5, 700, customers).astype(np.float32),
        favourites=favourites,
        place_km=place_km,
        category=rng.integers(len(CATEGORIES), size=terminals).astype(np.int8),
        region=region.astype(np.int8),
        shops=shops,
        web=web,
    )


def _honest(params: Simulated, world: World, n: int, rng: np.random.Generator) -> Transactions:
    customer = _customers(world, n, rng)
    days = np.arange(params.days)
    busy = (_WEEK[days % 7] * (1 + 0.2 * days / params.days) * (1 + 0.25 * (days % 30 < 3))).cumsum()
    day = np.searchsorted(busy, rng.random(n) * busy[-1], side="right")
    online = rng.random(n) < world.online[customer] * (0.8 + 0.4 * day / params.days)
    # A trip: for some days a customer shops where somebody else, usually far away, shops.
    start, length = rng.uniform(-10, 1.2 * params.days, params.customers), rng.uniform(3, 12, params.customers)
    host = rng.integers(params.customers, size=params.customers)
    away = (day >= start[customer]) & (day < (start + length)[customer]) & (rng.random(n) < 0.8)
    shopper = np.where(away, host[customer], customer)
    terminal = np.where(online, rng.choice(world.web, n), _favourite(world, shopper, rng))
    second = (rng.normal(_PEAK[world.category[terminal]], 3.2) % 24 * 3600).astype(np.int64)
    time = day * DAY + second
    # A spree: the same customer goes on shopping minutes after another purchase.
    follows = np.flatnonzero(rng.random(n) < 0.12)
    first = rng.integers(n, size=len(follows))
    customer[follows] = customer[first]
    time[follows] = time[first] + rng.exponential(1500, len(follows)).astype(np.int64) + 20
    online[follows] = online[first]
    terminal[follows] = np.where(
        online[follows], rng.choice(world.web, len(follows)), _favourite(world, shopper[first], rng)
    )
    amount = _amount(world, customer, terminal, np.where(away, 1.3, 1.0) * (1 + 0.06 * day / params.days), 0.65, rng)
    device = _device(online, np.where(online, 0.08, 0.0), rng)
    return _rows(params, time, customer, terminal, amount, online, device, 0, rng)


def _stolen_card(params: Simulated, world: World, n: int, rng: np.random.Generator) -> Transactions:
    episode, _ = _episodes(1 + rng.poisson(4, n), n)
    victim = _customers(world, n, rng)
    progress = _moments(n, -0.5, rng)
    # Most thieves shop while the owner sleeps.
    hour = np.where(rng.random(n) < 0.6, rng.normal(1.5, 2.5, n) % 24, rng.uniform(8, 23, n))
    start = np.floor(progress * params.days) * DAY + hour * 3600
    customer, progress = victim[episode], progress[episode]
    time = (start[episode] + rng.exponential(4 * 3600, n)).astype(np.int64)
    online = rng.random(n) < 0.3
    stranger = rng.integers(params.customers, size=n)
    terminal = np.where(online, rng.choice(world.web, n), _favourite(world, stranger, rng))
    amount = _amount(world, customer, terminal, 3.0 - 1.2 * progress, 0.7, rng)
    device = _device(online, np.where(online, 0.5, 0.0), rng)
    return _rows(params, time, customer, terminal, amount, online, device, 1, rng, swipe=0.45)


def _compromised_terminal(
    params: Simulated, world: World, honest: Transactions, n: int, rng: np.random.Generator
) -> Transactions:
    length = rng.uniform(18, 40, n)
    usual = params.transactions / params.terminals / params.days
    episode, _ = _episodes(np.maximum(3, rng.poisson(1.6 * usual * length)), n)
    terminal = rng.choice(world.shops, n)[episode]
    start = _moments(n, 0.0, rng) * np.maximum(params.days - length, 1)
    # Each fraud takes after an honest purchase at the same terminal: its customer, hour and amount.
    order = np.argsort(honest.terminal, kind="stable")
    ends = np.searchsorted(honest.terminal[order], np.arange(params.terminals + 1))
    count = np.diff(ends)[terminal]
    pattern = order[np.minimum(ends[terminal] + (rng.random(n) * count).astype(np.int64), len(order) - 1)]
    day = np.floor(start[episode] + rng.random(n) * length[episode]).astype(np.int64)
    time = day * DAY + honest.time[pattern] % DAY
    customer = honest.customer[pattern]
    amount = honest.amount[pattern] * np.exp(rng.normal(0.35, 0.45, n))
    online = np.zeros(n, bool)
    return _rows(params, time, customer, terminal, amount, online, _device(online, 0.0, rng), 2, rng, swipe=0.35)


def _account_takeover(params: Simulated, world: World, n: int, rng: np.random.Generator) -> Transactions:
    size = 3 + rng.poisson(3, n)
    episode, place = _episodes(size, n)
    victim = _customers(world, n, rng)
    start = _moments(n, 0.6, rng) * (params.days - 1) * DAY
    waited = np.where(place == 0, 0.0, rng.exponential(420.0, n)).cumsum()
    # Time within an episode: the running sum minus its value at the episode's first row.
    time = (start[episode] + waited - waited[place == 0][episode]).astype(np.int64)
    customer = victim[episode]
    testing = place < np.ceil(0.5 * size[episode])
    online = np.ones(n, bool)
    terminal = rng.choice(world.web, n)
    dear = _amount(world, customer, terminal, 2.2, 0.6, rng)
    amount = np.where(testing, rng.gamma(2.0, 1.6, n), dear)
    stays = rng.random(n)[episode] < 0.45
    device = _device(online, np.where(stays, 0.08, 0.7), rng)
    return _rows(params, time, customer, terminal, amount, online, device, 3, rng)


def _customers(world: World, n: int, rng: np.random.Generator) -> Array:
    """int32 [n], active customers more often."""
    drawn = np.searchsorted(world.activity, rng.random(n), side="right")
    return np.minimum(drawn, len(world.activity) - 1).astype(np.int32)


def _favourite(world: World, customer: Array, rng: np.random.Generator) -> Array:
    """int32 [n] terminal near each customer's home, the first favourites more often."""
    slot = np.minimum(rng.geometric(0.35, len(customer)) - 1, _FAVOURITES - 1)
    return world.favourites[customer, slot]


def _episodes(size: Array, n: int) -> tuple[Array, Array]:
    """Episode and place within it of n rows, from at least n episode sizes >= 1; the last episode is cut."""
    starts = np.concatenate([[0], size.cumsum()])
    episode = np.searchsorted(starts, np.arange(n), side="right") - 1
    return episode, np.arange(n) - starts[episode]


def _moments(n: int, slope: float, rng: np.random.Generator) -> Array:
    """float64 [n] in [0, 1) with density 1 + slope·(2x - 1), by inversion of its distribution."""
    u, rest = rng.random(n), 1 - slope
    # The usual root formula, multiplied out so that a slope of 0 needs no case of its own.
    x: Array = 2 * u / (rest + np.sqrt(rest * rest + 4 * slope * u))
    return x


def _amount(
    world: World, customer: Array, terminal: Array, factor: Array | float, sigma: float, rng: np.random.Generator
) -> Array:
    typical: Array = world.spend[customer] * PRICE[world.category[terminal]] * factor
    return typical * np.exp(rng.normal(0, sigma, len(customer)))


def _device(online: Array, new: Array | float, rng: np.random.Generator) -> Array:
    """int8 [n]: card or phone in a shop; browser, app or, with probability `new`, a new browser online."""
    u = rng.random(len(online))
    known = np.where(online, np.where(u < 0.55, 2, 3), np.where(u < 0.75, 0, 1))
    device = np.where(rng.random(len(online)) < new, 4, known)
    return np.where(rng.random(len(online)) < 0.03, -1, device).astype(np.int8)


def _rows(
    params: Simulated,
    time: Array,
    customer: Array,
    terminal: Array,
    amount: Array,
    online: Array,
    device: Array,
    mechanism: int,
    rng: np.random.Generator,
    swipe: float = 0.06,
) -> Transactions:
    """What all mechanisms share: the period's end, whole cents, and the channel in a shop."""
    last = params.days * DAY - 1
    u = rng.random(len(time))
    tap = swipe + (1 - swipe) / (1 + np.square(amount / 40))
    channel = np.where(online, 3, np.where(u < swipe, 2, np.where(u < tap, 1, 0)))
    return Transactions(
        time=last - np.abs(last - time),
        customer=customer.astype(np.int32),
        terminal=terminal.astype(np.int32),
        amount=np.round(np.clip(amount, 0.5, 20_000), 2),
        channel=channel.astype(np.int8),
        device=device,
        mechanism=np.full(len(time), mechanism, np.int8),
    )
