"""These tests judge a run, so that an ordinary `pytest` passes them by; `switchback gate` runs them."""


def pytest_ignore_collect(config):
    return None if config.getoption("--switchback-verdicts", None) else True
